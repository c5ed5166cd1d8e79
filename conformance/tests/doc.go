// SPDX-License-Identifier: Apache-2.0

// Package tests has tests of what Isthmus adds to the Gateway API, in the form of the API's own: one test, one file, one manifest. The suite's runner runs them beside its own
// tests. They need features of ours, which are in none of the suite's profiles, so no report ever counts them.
package tests
