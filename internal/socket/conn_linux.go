// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// brief is up to how many bytes a call is made without the scheduler's knowledge, in bytes: a TLS record of 16 KiB with what is around it. To copy so much takes a few microseconds.
const brief = 18 << 10

// Conn is a TCP connection, with all that *net.TCPConn has. As there, any of its methods may be called from any goroutine; but one only may Read at a time, and one only Write or
// TryWrite.
type Conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
	try     func(fd uintptr) bool
}

// transfer is a Read or Write that is under way.
type transfer struct {
	step func(fd uintptr) (done bool) // made once, so that no call allocates
	p    []byte
	n    int
	err  error
}

// Of gives the Conn of a connection: itself, or a new one of a *net.TCPConn, beside which that still may be used. It is nil for any other connection.
func Of(nc net.Conn) *Conn {
	if c, ok := nc.(*Conn); ok {
		return c
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	c := &Conn{TCPConn: tcp, raw: raw}
	c.in.step, c.out.step, c.try = c.read, c.write, c.writeSome
	return c
}

// Read is that of net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t := &c.in
	t.p, t.n, t.err = p, 0, nil
	err := c.raw.Read(t.step)
	return t.end("read", c, err)
}

// Write is that of net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.put(p, c.out.step) }

// TryWrite writes as much of p as the socket takes at once. That it takes less is no error, and neither is that it takes nothing.
func (c *Conn) TryWrite(p []byte) (int, error) { return c.put(p, c.try) }

func (c *Conn) put(p []byte, step func(uintptr) bool) (int, error) {
	t := &c.out
	t.p, t.n, t.err = p, 0, nil
	err := c.raw.Write(step)
	return t.end("write", c, err)
}

// end gives what came of a transfer.
func (t *transfer) end(op string, c *Conn, waiting error) (int, error) {
	n, err := t.n, t.err
	t.p, t.err = nil, nil
	if err == nil {
		err = waiting
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.named(op, err)
	}
	return n, err
}

// named is an error as *net.TCPConn has it. That of waiting names an operation that is none of the caller's.
func (c *Conn) named(op string, err error) error {
	var waited *net.OpError
	if errors.As(err, &waited) {
		err = waited.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (c *Conn) read(fd uintptr) (done bool) {
	t := &c.in
	for {
		n, errno := call(syscall.SYS_READ, fd, t.p)
		switch errno {
		case 0:
			if t.n = n; n == 0 {
				t.err = io.EOF
			}
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		default:
			t.err = os.NewSyscallError("read", errno)
		}
		return true
	}
}

// write is done when all is written, and writeSome when the socket takes no more.
func (c *Conn) write(fd uintptr) (done bool) {
	t := &c.out
	for t.n < len(t.p) {
		n, errno := call(syscall.SYS_WRITE, fd, t.p[t.n:])
		switch errno {
		case 0:
			t.n += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.err = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

func (c *Conn) writeSome(fd uintptr) (done bool) {
	c.write(fd)
	return true
}
