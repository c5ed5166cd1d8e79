// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
	"time"
)

// spent is what something took.
type spent struct {
	processor time.Duration // of this process, in user and kernel mode, on all cores
	wall      time.Duration
}

// perGB is seconds of processor time per GB.
func (s spent) perGB(bytes int) float64 { return s.processor.Seconds() / (float64(bytes) / 1e9) }

// speed is GB per second on the wall.
func (s spent) speed(bytes int) float64 { return float64(bytes) / 1e9 / s.wall.Seconds() }

// spend measures f.
func spend(f func() error) (spent, error) {
	began, before := time.Now(), processorTime()
	err := f()
	return spent{processor: processorTime() - before, wall: time.Since(began)}, err
}

// processorTime is what this process has used so far, in user and kernel mode.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
