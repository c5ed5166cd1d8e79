// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// yield makes the kernel give new connections to another process that listens on the same address, if there is one, while we go on
// accepting those that it gave us before. Closing right away would reset the latter.
//
// Sockets that share an address are numbered in the order in which they began to listen, and a filter may say which one is next. This
// one says "the second": the newer proxy's, beside ours. A number that nobody has makes the kernel choose as ever, so that the filter
// does no harm when we are alone, or when the newer socket has become the first.
func yield(l syscall.Conn) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	second := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1}
	var result error
	if err := raw.Control(func(fd uintptr) {
		result = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &second})
	}); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF", result)
}
