// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"time"

	"golang.org/x/sys/unix"
)

// RoundTrip is the shortest that the kernel has seen lately on the connection (TCP_INFO's tcpi_min_rtt), and so the way's own: without queues, and without what a busy machine adds.
// 0: it is not known.
func (c *Conn) RoundTrip() time.Duration {
	var info *unix.TCPInfo
	if err := c.raw.Control(func(fd uintptr) { info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil || info == nil {
		return 0
	}
	if info.Min_rtt == ^uint32(0) { // no packet was measured yet
		return 0
	}
	return time.Duration(info.Min_rtt) * time.Microsecond
}
