// SPDX-License-Identifier: Apache-2.0

// Package e2e is the main job, end to end, on two real clusters: install, link, label, call, and look closely at what
// happened on the way. It is the demo that `make demo` shows, the test that CI runs, and the scoreboard's row `demo`.
//
// The journey (`make journey`) is the same for change: three clusters call each other while everything of Isthmus is rolled, credentials are replaced, and a cluster
// is lost.
//
// Every step ends in checks; a check that fails is printed with what was seen, the rest goes on where it can, and the
// program's exit code says whether all of them passed. Nothing in here reaches into the product: it reads what a user
// can read, which is objects, answers, logs, and packets on the WAN.
package e2e
