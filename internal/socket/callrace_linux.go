// SPDX-License-Identifier: Apache-2.0

//go:build race

package socket

import (
	"errors"
	"syscall"
)

// call reads into p or writes it, which has a byte at least.
func call(number, fd uintptr, p []byte) (int, syscall.Errno) {
	do := syscall.Write
	if number == syscall.SYS_READ {
		do = syscall.Read
	}
	n, err := do(int(fd), p)
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno) // it is nothing else
		return 0, errno
	}
	return n, 0
}
