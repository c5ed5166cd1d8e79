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
// it is not, if it owes an answer: a node proxy does once it was sent a whole ClientHello, for it answers even those that it does not like, by an alert. So does that it says nothing for
// a while, until its client leaves. Anything else that a client sends may be a reason to hang up, and no client shall talk an endpoint out of reach of the others.
type endpointConn struct {
	relay.Conn
	answered func() // called with the first byte

	heard atomic.Bool
	left  atomic.Bool // the client ended its side, so that the endpoint may well end the rest
	ended atomic.Bool // the endpoint ended its side while it owed an answer
	hello *helloWatch // by the one that writes; nil: not looked for, or no longer

	now  func() time.Time // see owe
	owed atomic.Int64     // since when it owes an answer, in ns of Unix time; 0: it does not
	gone atomic.Int64     // the same, since when the client has ended its side
}

// helloWithin is in how much time from its connection's begin on a ClientHello must be sent for an answer to be owed: much less than a node proxy waits for it (10 s), so that nobody can send its
// end in the moment in which the proxy gives up.
const helloWithin = 2 * time.Second

// hush is after how much time without a byte an endpoint that owes an answer is mute: half of what a source of ours has patience for, and a thousand times what an answer takes.
const hush = time.Second

// helloWatch follows what a client sends until a ClientHello is whole.
type helloWatch struct {
	stranger.Progress
	begun time.Time // of the connection
	sent  []byte    // if one Write did not have it all
}

// owe says that whoever is at the other end answers any ClientHello. It is called before the first Write.
func (c *endpointConn) owe(now func() time.Time) {
	c.now, c.hello = now, &helloWatch{begun: now()}
}

// mute says, of a connection that is over, whether the endpoint owed an answer and ended without one, or kept its client waiting for one until that left. A client that leaves at once says
// nothing of the endpoint.
func (c *endpointConn) mute() bool {
	owed := c.owed.Load()
	switch {
	case owed == 0 || c.heard.Load():
		return false
	case c.ended.Load():
		return true
	}
	over := c.gone.Load()
	if over == 0 {
		over = c.now().UnixNano()
	}
	return time.Duration(over-owed) >= hush
}

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
		// It is noted before the last bytes of the ClientHello go: the answer may overtake the end of Write.
		if now := c.now(); now.Sub(h.begun) < helloWithin {
			c.owed.Store(now.UnixNano())
		}
		c.hello = nil
	case h.sent == nil:
		h.sent = append(make([]byte, 0, 2*len(p)), p...)
	}
}

// note looks whether an error is the endpoint's leaving. Errors that we cause ourselves by ending the connection are not.
func (c *endpointConn) note(err error) {
	ours := err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || c.left.Load()
	if !ours && c.owed.Load() != 0 && !c.heard.Load() {
		c.ended.Store(true)
	}
}

// CloseWrite ends the client's direction.
func (c *endpointConn) CloseWrite() error {
	if !c.left.Swap(true) && c.now != nil {
		c.gone.Store(c.now().UnixNano())
	}
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
