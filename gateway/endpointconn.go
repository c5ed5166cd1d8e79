// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
)

// endpointConn is a connection to an endpoint that takes note of what it says of the endpoint.
//
// That it was taken says little: whatever stands before the endpoint may have done so. The first byte of an answer says that it is well. That it ends before its first byte says that
// it is not, if it owes an answer: a node proxy does once it was sent a whole ClientHello, for it answers even those that it does not like, by an alert. Anything else that a client
// sends may be a reason to hang up, and no client shall talk an endpoint out of reach of the others.
type endpointConn struct {
	relay.Conn
	answered func() // called with the first byte

	heard atomic.Bool
	left  atomic.Bool // the client ended its side, so that the endpoint may well end the rest
	ended atomic.Bool // the endpoint ended its side while it owed an answer
	owing atomic.Bool // see owe; set before the last bytes of the ClientHello go: the answer may overtake the end of Write
	hello *helloWatch // by the one that writes; nil: not looked for, or no longer
}

// helloWithin is in how much time from its connection's begin on a ClientHello must be sent for an answer to be owed: much less than a node proxy waits for it (10 s), so that nobody can send its
// end in the moment in which the proxy gives up.
const helloWithin = 2 * time.Second

// helloWatch follows what a client sends until a ClientHello is whole.
type helloWatch struct {
	stranger.Progress
	now   func() time.Time
	begun time.Time // of the connection
	sent  []byte    // if one Write did not have it all
}

// owe says that whoever is at the other end answers any ClientHello. It is called before the first Write.
func (c *endpointConn) owe(now func() time.Time) { c.hello = &helloWatch{now: now, begun: now()} }

// mute says whether the endpoint owed an answer and ended without one. A client that leaves first says nothing of the endpoint.
func (c *endpointConn) mute() bool { return c.ended.Load() && !c.heard.Load() }

// Read takes note.
func (c *endpointConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.heard.Swap(true) {
		c.answered()
	}
	c.note(err)
	return n, err
}

// Write takes note.
func (c *endpointConn) Write(p []byte) (int, error) {
	if c.hello != nil {
		c.watch(p)
	}
	n, err := c.Conn.Write(p)
	c.note(err)
	return n, err
}

// watch looks at what is about to be sent, until it knows whether it begins with a ClientHello.
func (c *endpointConn) watch(p []byte) {
	h := c.hello
	if h.sent != nil {
		h.sent = append(h.sent, p[:min(len(p), stranger.MaxHello)]...)
		p = h.sent
	}
	switch _, whole, err := h.Look(p); {
	case err != nil:
		c.hello = nil
	case whole:
		c.owing.Store(h.now().Sub(h.begun) < helloWithin)
		c.hello = nil
	case h.sent == nil:
		h.sent = append(make([]byte, 0, 2*len(p)), p...)
	}
}

// note looks whether an error is the endpoint's leaving. Errors that we cause ourselves by ending the connection are not.
func (c *endpointConn) note(err error) {
	ours := err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || c.left.Load()
	if !ours && c.owing.Load() && !c.heard.Load() {
		c.ended.Store(true)
	}
}

// CloseWrite ends the client's direction.
func (c *endpointConn) CloseWrite() error {
	c.left.Store(true)
	return c.Conn.CloseWrite()
}

// Reset ends the connection so that the endpoint sees an error and takes a broken stream for no complete one.
func (c *endpointConn) Reset(code uint32) error {
	if r, ok := c.Conn.(interface{ Reset(code uint32) error }); ok {
		return r.Reset(code)
	}
	if tcp, ok := c.Conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is over
	}
	return c.Conn.Close()
}
