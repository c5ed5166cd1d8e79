// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab"
)

// capture counts what crosses the WAN. It reads whole packets from a packet socket in the WAN's namespace.
type capture struct {
	marker []byte
	fd     int
	stop   atomic.Bool
	done   sync.WaitGroup

	packets, bytes, tunnel, marked atomic.Int64
}

// snapLength is longer than any packet on a wire with offloads (64 KiB and a header).
const snapLength = 1 << 17

func startCapture(l *lab.Lab, marker string) (*capture, error) {
	c := &capture{marker: []byte(marker), fd: -1}
	err := l.InNamespace(l.WANNamespace(), func() error {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)) // network order, as packet(7) wants it
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
		c.fd = fd
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packet socket on the WAN: %w", err)
	}
	// A time-out lets the reader see that it should stop.
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		_ = unix.Close(c.fd)
		return nil, err
	}
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) // a smaller buffer works, it only may drop
	c.done.Go(c.read)
	return c, nil
}

func (c *capture) read() {
	buf := make([]byte, snapLength)
	for !c.stop.Load() {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		packet := buf[:n]
		c.packets.Add(1)
		c.bytes.Add(int64(n))
		if usesPort(packet, 15008) {
			c.tunnel.Add(int64(n))
		}
		if bytes.Contains(packet, c.marker) {
			c.marked.Add(1)
		}
	}
}

// usesPort says whether an Ethernet frame or bare IP packet holds an IPv4 TCP segment from or to the port.
func usesPort(packet []byte, port uint16) bool {
	if len(packet) >= 14 && binary.BigEndian.Uint16(packet[12:]) == unix.ETH_P_IP {
		packet = packet[14:]
	}
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[9] != unix.IPPROTO_TCP {
		return false
	}
	header := int(packet[0]&0x0f) * 4
	if len(packet) < header+4 {
		return false
	}
	return binary.BigEndian.Uint16(packet[header:]) == port || binary.BigEndian.Uint16(packet[header+2:]) == port
}

// awaitMarker waits until the marker has been seen, or the limit is over.
func (c *capture) awaitMarker(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if c.marked.Load() > 0 {
			return true
		}
	}
	return c.marked.Load() > 0
}

// dropped says how many packets the kernel could not keep for us: a capture with holes proves nothing.
func (c *capture) dropped() (uint32, error) {
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return stats.Drops, nil
}

func (c *capture) close() {
	c.stop.Store(true)
	c.done.Wait()
	_ = unix.Close(c.fd)
}
