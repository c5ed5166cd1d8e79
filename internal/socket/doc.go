// SPDX-License-Identifier: Apache-2.0

// Package socket reads and writes TCP connections with system calls of which Go's scheduler is not told.
//
// Around each system call the runtime makes ready for one that takes long: a thread is woken that watches the others, and may take the goroutines of one that is
// away for 20 µs. A call on a socket that does not block hardly ever is, and a proxy does little else: `go run ./test/scoreboard node-cost` has a node
// proxy at 0.22 and 0.25 cores without it, 0.19 and 0.19 with it, a TLS relay at 0.22 in all four.
//
// Only calls of a few kilobytes are made so. While one lasts, its thread can neither be taken its goroutines nor be stopped for the garbage collector, and to copy a megabyte
// takes long enough for both to matter. It may last longer than to copy so little takes: a write over veth or loopback also does the receiver's part of the work, and both ends of
// a connection share a lock in the kernel. Larger calls, and what else a process does, wake the thread that watches.
//
// Builds for the race detector make all calls by way of package syscall, which tells the detector what is ordered by them.
package socket
