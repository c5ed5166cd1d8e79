// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"net"
	"sync"
	"sync/atomic"
)

const (
	// aheadSize is how many bytes of bulk are read at once. TLS asks for one record and reads less than two: with eight, a stream's reader gets them in one Read and passes
	// them on in one write, which wakes whoever is behind it once. `go run ./test/scoreboard node-bulk`: 0.85 to 0.95 of two relays before, 0.97 and 0.98 with it.
	aheadSize = 128 << 10
	// bulkRead is from how many bytes on a read that gives all that was asked for is bulk: one record, so that nothing else gets a buffer.
	bulkRead = tlsRecord
	// maxAheads is how many connections may have such a buffer at once, 32 MiB in all; the others read as TLS asks. What a peer can have us hold is so bounded for all of them together.
	maxAheads = 256
)

// aheadBuffer holds what was read of the network before TLS asked for it. It has a buffer while large DATA frames come, and gives it back with the first small one, or once less than a record
// comes at a time: at the latest with the next PING or its answer. It belongs to whoever reads the connection.
type aheadBuffer struct {
	buf  *[]byte // nil: none
	r, w int     // (*buf)[r:w] is here
	bulk bool    // the last read of the network gave as much as was asked for, or a buffer's worth of a record or more
	data bool    // and what comes are large DATA frames, of which streams' readers get more at once; what is small is worth no buffer
	now  bool    // who reads does not wait: what is not here is errNotHere
}

var (
	aheads    = sync.Pool{New: func() any { b := make([]byte, aheadSize); return &b }}
	aheadsOut atomic.Int64
)

// errNotHere ends a read that is not to wait. TLS takes it for a matter of the moment, as it does a deadline, because it is Temporary.
var errNotHere error = notHere{}

type notHere struct{}

func (notHere) Error() string   { return "hbone: nothing more is here" }
func (notHere) Timeout() bool   { return true }
func (notHere) Temporary() bool { return true }

// Read reads what the network has; once a Conn has taken over, bulk in larger pieces than TLS asks for.
func (t *Transport) Read(p []byte) (int, error) {
	a := &t.ahead
	if a.r == a.w {
		if a.now {
			return 0, errNotHere
		}
		if !a.bulk || !a.data || !a.hold() {
			n, err := t.below().Read(p)
			a.bulk = n == len(p) && n >= bulkRead && t.adopted.Load()
			return n, err
		}
		n, err := t.below().Read(*a.buf)
		a.r, a.w, a.bulk = 0, n, n >= bulkRead
		if n == 0 {
			a.drop()
			return 0, err
		}
		// An error comes again.
	}
	n := copy(p, (*a.buf)[a.r:a.w])
	if a.r += n; a.r == a.w && (!a.bulk || !a.data) {
		a.drop()
	}
	return n, nil
}

// below is what the network is read from. Conn may be another one until a Conn has taken over: handshakes are watched.
func (t *Transport) below() net.Conn {
	if t.tcp != nil && t.adopted.Load() {
		return t.tcp
	}
	return t.Conn
}

// hold sees to it that there is a buffer, if there may be one more.
func (a *aheadBuffer) hold() bool {
	if a.buf != nil {
		return true
	}
	if aheadsOut.Add(1) > maxAheads {
		aheadsOut.Add(-1)
		return false
	}
	a.buf = aheads.Get().(*[]byte)
	return true
}

// drop gives the buffer back, if there is one.
func (a *aheadBuffer) drop() {
	if a.buf == nil {
		return
	}
	aheads.Put(a.buf)
	aheadsOut.Add(-1)
	a.buf, a.r, a.w = nil, 0, 0
}

// ahead says whether more of the network's bytes are here than TLS has taken.
func (c *Conn) ahead() bool { return c.under != nil && c.under.ahead.r < c.under.ahead.w }

// read reads from the transport. Who takes along what is here gets errNotHere for what is not.
func (c *Conn) read(p []byte) (int, error) {
	if !c.in.along {
		return c.nc.Read(p)
	}
	c.under.ahead.now = true
	n, err := c.nc.Read(p)
	c.under.ahead.now = false
	return n, err
}
