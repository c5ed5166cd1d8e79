// SPDX-License-Identifier: Apache-2.0

// Package logpipe lets a process write a log without waiting for whoever reads it.
//
// A proxy writes a line when a connection ends, by the goroutine that carried it. Where the reader of standard output stalls, for a disk that does, or a runtime that is being
// restarted, the pipe between is full after about a hundred lines, and a process that waits for it stops carrying connections. Here lines wait in memory instead, up to a bound, and
// those beyond are lost and counted: a log with a gap is better than a node without a network.
package logpipe
