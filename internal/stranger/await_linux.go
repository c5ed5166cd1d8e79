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
		a := await{least: 1}
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
	need, whole, err := a.progress.Look(buffer[:n])
	a.err = err
	return need, whole || err != nil
}

func (a *await) wakeAt(fd, least int) {
	a.least = least
	a.err = errors.Join(a.err, os.NewSyscallError("setsockopt SO_RCVLOWAT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, least)))
}
