// SPDX-License-Identifier: Apache-2.0

// Package processors gives a process one processor for as long as one is enough for it, and all of them as soon as it is not.
//
// A proxy with little to do is woken for each read, and hands over to another goroutine a few microseconds later. With several processors, Go's scheduler wakes
// a thread of another one for that, which looks for work, finds that somebody has done it, and sleeps again; that costs more than the work that it was to take over.
// With one processor nobody is woken. `go run ./test/scoreboard node-cost` has a node proxy at 0.20 to 0.25 cores with two processors, at 0.15 with one.
//
// It knows nothing of what the process does. All it looks at is the processor's time that was used: a directory of 100,000 workloads or a burst of handshakes looks like
// load, and gets all processors. So does a garbage collection, but after its end: the runtime does not change their number while one runs. A burst that comes meanwhile waits
// for it, so a process for which that would take long has all processors, always.
package processors
