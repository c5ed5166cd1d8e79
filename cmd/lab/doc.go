// SPDX-License-Identifier: Apache-2.0

// Command lab makes and removes real Kubernetes clusters on this machine, for the demo and the tests: see package lab.
package main
