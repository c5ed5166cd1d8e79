// SPDX-License-Identifier: Apache-2.0

// Package archtest holds the floors of the house as a test: who may import whom, and why.
// It has no code of its own; see archtest_test.go.
package archtest
