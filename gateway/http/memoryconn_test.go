// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// memoryConn is an end of a connection of a memoryNet.
type memoryConn struct {
	in, out       *direction
	local, remote netip.AddrPort
}

func (c *memoryConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memoryConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *memoryConn) LocalAddr() net.Addr         { return net.TCPAddrFromAddrPort(c.local) }
func (c *memoryConn) RemoteAddr() net.Addr        { return net.TCPAddrFromAddrPort(c.remote) }

func (c *memoryConn) Close() error {
	c.in.set(func() { c.in.left = true })
	c.out.set(func() { c.out.ended = true })
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.set(func() { c.in.readBy = t })
	c.in.wakeAt(t)
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.set(func() { c.out.writeBy = t })
	c.out.wakeAt(t)
	return nil
}

func (c *memoryConn) SetDeadline(t time.Time) error {
	_ = c.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

// directionBytes is how much may be under way in one direction, as in the buffers of a system.
const directionBytes = 64 << 10

// direction is what goes from one end of a connection to the other.
type direction struct {
	mu              sync.Mutex // hold for all below
	changed         *sync.Cond
	data            []byte
	readBy, writeBy time.Time
	ended           bool // who writes has closed it
	left            bool // who reads has
}

func newDirection() *direction {
	d := new(direction)
	d.changed = sync.NewCond(&d.mu)
	return d
}

func (d *direction) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	d.changed.Broadcast()
}

// wakeAt has who waits look at the time then.
func (d *direction) wakeAt(t time.Time) {
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), d.changed.Broadcast)
	}
}

func isPast(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (d *direction) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.left:
			return 0, net.ErrClosed
		case isPast(d.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(d.data) > 0:
			n := copy(p, d.data)
			d.data = d.data[n:]
			d.changed.Broadcast()
			return n, nil
		case d.ended:
			return 0, io.EOF
		}
		d.changed.Wait()
	}
}

func (d *direction) write(p []byte) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.ended:
			return n, net.ErrClosed
		case d.left:
			return n, syscall.EPIPE
		case isPast(d.writeBy):
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		case len(d.data) < directionBytes:
			now := p[n:min(len(p), n+directionBytes-len(d.data))]
			d.data = append(d.data, now...)
			n += len(now)
			d.changed.Broadcast()
			continue
		}
		d.changed.Wait()
	}
}
