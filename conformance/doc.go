// SPDX-License-Identifier: Apache-2.0

// Package conformance runs the conformance suites of others, unmodified, against Isthmus.
package conformance
