// SPDX-License-Identifier: Apache-2.0

//go:build !race

package socket

import (
	"syscall"
	"unsafe"
)

// call reads into p or writes it, which has a byte at least.
func call(number, fd uintptr, p []byte) (int, syscall.Errno) {
	var n uintptr
	var errno syscall.Errno
	if len(p) <= brief {
		n, _, errno = syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	} else {
		n, _, errno = syscall.Syscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
