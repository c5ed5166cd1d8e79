// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// HelloTime is how long a peer may take to send its ClientHello: enough for two lost packets (RFC 6298: 1 s, then 2 s).
const HelloTime = 3 * time.Second

var hellos = sync.Pool{New: func() any { return new([MaxHello]byte) }}

// Hello waits until a whole ClientHello has arrived, HelloTime at most, and takes none of it. io.EOF means that the peer ended without a word. A connection that is no socket is
// not waited for.
func (c *Conn) Hello(ctx context.Context) error {
	return c.hello(ctx, &await{least: 1, begun: true})
}

// ConfinedHello is Hello where a confinement may come before the ClientHello, one at most: it takes that, and gives what the connection is confined to; "": it is not.
func (c *Conn) ConfinedHello(ctx context.Context) (to string, err error) {
	a := await{least: 1}
	err = c.hello(ctx, &a)
	return a.confined, err
}

func (c *Conn) hello(ctx context.Context, a *await) error {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, HelloTime, fmt.Errorf("no ClientHello within %s", HelloTime))
	defer cancel()
	return c.waitFor(nil, func() error {
		stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // a dead connection ends the wait, too
		err := raw.Read(a.look)
		if !stop() {
			return context.Cause(ctx)
		}
		if a.least > 1 {
			err = errors.Join(err, raw.Control(func(fd uintptr) { a.wakeAt(int(fd), 1) }))
		}
		return errors.Join(err, a.err)
	})
}

// await looks at what has arrived.
type await struct {
	begun    bool // nothing may come before the ClientHello any more
	confined string
	progress Progress
	least    int // bytes below which the kernel does not wake us
	err      error
}

// look says whether it is known how the wait ends. It asks to be woken again only when there is enough for it to go on, which is twice for each record: a peer that sends byte by
// byte costs no more than one that sends all at once, and maxRecords bounds what one costs that makes many records of it.
func (a *await) look(fd uintptr) bool {
	for {
		need, done := a.peek(int(fd))
		if done {
			return true
		}
		if need == a.least {
			return false
		}
		if a.wakeAt(int(fd), need); a.err != nil {
			return true
		}
		// It may have come between.
	}
}

func (a *await) peek(fd int) (need int, done bool) {
	buffer := hellos.Get().(*[MaxHello]byte)
	defer hellos.Put(buffer)
	n, _, err := unix.Recvfrom(fd, buffer[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		n = 0
	case err != nil:
		a.err = os.NewSyscallError("recv", err)
		return 0, true
	case n == 0:
		a.err = io.EOF
		return 0, true
	}
	sent := buffer[:n]
	if !a.begun {
		to, bytes, more, err := confinement(sent)
		if more || err != nil {
			a.err = err
			return bytes, err != nil
		}
		if a.err = take(fd, bytes); a.err != nil {
			return 0, true
		}
		a.begun, a.confined, sent = true, to, sent[bytes:]
	}
	need, whole, err := a.progress.Look(sent)
	a.err = err
	return need, whole || err != nil
}

// take reads bytes that were seen to be there.
func take(fd, bytes int) error {
	for taken := make([]byte, bytes); len(taken) > 0; {
		n, _, err := unix.Recvfrom(fd, taken, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("recv", err)
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			taken = taken[n:]
		}
	}
	return nil
}

func (a *await) wakeAt(fd, least int) {
	a.least = least
	a.err = errors.Join(a.err, os.NewSyscallError("setsockopt SO_RCVLOWAT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, least)))
}
