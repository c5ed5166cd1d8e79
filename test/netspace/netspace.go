// SPDX-License-Identifier: Apache-2.0

// Package netspace makes network namespaces for tests. They have no names, so none is left behind.
package netspace

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// New makes a network namespace in which nothing is up. It lives until the file is closed and nothing runs in it any more. It needs root.
func New() (*os.File, error) {
	type made struct {
		file *os.File
		err  error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- made{nil, fmt.Errorf("make a network namespace (needs root): %w", err)}
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		c <- made{file, err}
	}()
	m := <-c
	return m.file, m.err
}
