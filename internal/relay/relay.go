// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/socket"
)

// Conn is a connection whose directions end separately: *net.TCPConn, *tls.Conn, *hbone.Stream.
type Conn interface {
	net.Conn
	// CloseWrite ends our direction; the peer reads io.EOF.
	CloseWrite() error
}

// AsConn gives nc as a Conn: a *net.TCPConn as one whose reads and writes cost less. One without CloseWrite is closed whole when its direction ends, which is all that it can do.
func AsConn(nc net.Conn) Conn {
	if tcp := socket.Of(nc); tcp != nil {
		return tcp
	}
	if c, ok := nc.(Conn); ok {
		return c
	}
	return whole{nc}
}

type whole struct{ net.Conn }

func (w whole) CloseWrite() error { return w.Close() }

// Stats counts while the copy runs. Its zero value is ready.
type Stats struct {
	// Sent is how many bytes went from a to b, Received from b to a.
	Sent, Received atomic.Int64
}

// connectError is HTTP/2's CONNECT_ERROR, the code for "the TCP connection behind this tunnel broke" (RFC 9113 §8.5).
const connectError = 0xa

// Copy copies a to b and b to a until both directions have ended, then closes both. It returns nil if both ended with io.EOF. On an error, or
// when ctx ends, both connections are reset (see abort) and the first error is returned, with the direction that met it.
func Copy(ctx context.Context, a, b Conn, s *Stats) error {
	a, b = AsConn(a), AsConn(b)
	r := &run{a: a, b: b, done: make(chan struct{})}
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(aborted)
		r.abort(context.Cause(ctx))
	})
	defer func() {
		if !stop() {
			<-aborted
		}
	}()

	defer r.watch(a, &s.Sent)()
	defer r.watch(b, &s.Received)()
	defer close(r.done)

	back := make(chan struct{})
	go func() {
		defer close(back)
		GrowStack()
		r.direction("b to a", a, b, &s.Received)
	}()
	r.direction("a to b", b, a, &s.Sent)
	<-back
	if err := r.err.Load(); err != nil {
		return *err
	}
	// Both directions ended in order: a failing Close changes nothing for either side any more.
	_ = a.Close()
	_ = b.Close()
	return nil
}

// run is one Copy.
type run struct {
	a, b Conn
	err  atomic.Pointer[error] // the first one
	done chan struct{}         // closed when both directions have ended
}

// direction copies src to dst and passes on how it ended.
func (r *run) direction(name string, dst, src Conn, count *atomic.Int64) {
	err := pump(dst, src, count)
	if err == nil {
		err = dst.CloseWrite()
		if ended(err) {
			err = nil // the other side is gone; if it still owes us bytes, reading them will tell
		}
	}
	if err != nil {
		r.abort(fmt.Errorf("relay %s: %w", name, err))
	}
}

// abort records the first error and ends both connections without an orderly end: a TCP connection is closed with a reset, a tunnelled stream
// with CONNECT_ERROR; under TLS the same happens to what carries it, without close_notify. Anything else is closed.
func (r *run) abort(err error) {
	if !r.err.CompareAndSwap(nil, &err) {
		return
	}
	for _, c := range []Conn{r.a, r.b} {
		reset(c)
	}
}

// reset closes c so that its peer sees an error.
func reset(c net.Conn) {
	switch c := c.(type) {
	case interface{ NetConn() net.Conn }: // *tls.Conn
		reset(c.NetConn())
	case interface{ Reset(code uint32) error }:
		// Resets are told to peers who may be gone; there is nothing to do about one that fails.
		_ = c.Reset(connectError)
	case interface{ SetLinger(seconds int) error }: // TCP
		_ = c.SetLinger(0)
	}
	_ = c.SetDeadline(time.Unix(1, 0)) // wakes who waits in it, should Close not
	_ = c.Close()
}

// ended says whether an error of CloseWrite only tells that the connection is over already.
func ended(err error) bool {
	return err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || gone(err)
}
