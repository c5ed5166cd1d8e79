// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// boundAcks has the system give a connection up whose peer acknowledges nothing for a time. Tunnels know by themselves.
func boundAcks(conn net.Conn, most time.Duration) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(most.Milliseconds())) // without it there is the system's hope
	})
}
