// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/socket"
)

// Transport is a net.Conn to put beneath TLS, or beneath a Conn that has none, so that writing never waits for the network:
//
//	secured := tls.Server(hbone.NewTransport(nc), config)
//	…
//	conn := hbone.NewServer(secured, settings)
//
// A Conn that finds one there has its frames written by whoever makes them, straight from the buffer of their Write, which saves a copy and two changes of
// goroutine. It works without, only slower: a goroutine that may be held up by a stuck peer must not be one that has a deadline to keep, so without a Transport
// everything is copied and written by a goroutine of the Conn's own.
//
// Until a Conn takes it over (the TLS handshake comes before that), a Transport is the net.Conn that it was made of. After that, what the network does not take at
// once is kept, and sent by the Conn; that is never more than one write of the Conn, a frame or the queue.
type Transport struct {
	net.Conn
	tcp   *socket.Conn // Conn as it was first; nil: not TCP
	try   tryWriter    // nil: it cannot write without waiting
	ahead aheadBuffer

	adopted atomic.Bool
	ours    atomic.Bool  // the Conn writes; what is written else is TLS's own
	kept    atomic.Int64 // bytes that wait, those that flush is writing included
	limit   int64        // of kept
	onKept  func()       // called, if set, when bytes were kept: TLS also writes by itself, and then nobody has the turn

	mu       sync.Mutex
	over     []byte // what was not taken, the oldest first
	aside    int    // bytes of over that TLS wrote by itself
	flushing bool
	err      error
}

// maxAside is how many bytes TLS may have waiting that it wrote by itself, while the Conn wrote nothing: the answers to 600 key updates, of which RFC 8446 section 5.5
// has an honest peer send one in 2^24 records. Whoever asks for more and does not read what it asked for is not honest.
const maxAside = 16 << 10

// tryWriter writes as much of p as it can without waiting.
type tryWriter interface {
	tryWrite(p []byte) (int, error)
}

// socketWriter leaves packets to TCP, whatever follows: with MSG_MORE the records of a frame share packets, which on veth costs both ends more (node-bulk: by a
// quarter) than it saves on loopback (hbone-bulk: 2 %).
type socketWriter struct{ *socket.Conn }

func (w socketWriter) tryWrite(p []byte) (int, error) { return w.TryWrite(p) }

// NewTransport makes a Transport of a TCP connection or, for a tunnel in a tunnel, of a *Stream. Any other net.Conn keeps its ways.
func NewTransport(nc net.Conn) *Transport {
	t := &Transport{Conn: nc}
	if s, ok := nc.(*Stream); ok {
		t.try = s
	} else if tcp := socket.Of(nc); tcp != nil {
		t.tcp, t.try = tcp, socketWriter{tcp}
	}
	return t
}

// transportOf finds the Transport beneath nc and takes it over; nil if there is none.
func transportOf(nc net.Conn) *Transport {
	t, ok := nc.(*Transport)
	if !ok {
		secured, isTLS := nc.(*tls.Conn)
		if !isTLS || !secured.ConnectionState().HandshakeComplete {
			return nil // a handshake within our first write would wait for the peer
		}
		t, ok = secured.NetConn().(*Transport)
	}
	if !ok || t.try == nil {
		return nil
	}
	t.adopted.Store(true)
	return t
}

// NetConn gives the net.Conn that the Transport was made of.
func (t *Transport) NetConn() net.Conn { return t.Conn }

// CloseWrite ends our direction, if the net.Conn below can do that.
func (t *Transport) CloseWrite() error {
	half, ok := t.Conn.(interface{ CloseWrite() error })
	if !ok {
		return net.ErrClosed
	}
	return half.CloseWrite()
}

// Write takes all of p.
func (t *Transport) Write(p []byte) (int, error) {
	if !t.adopted.Load() {
		return t.Conn.Write(p)
	}
	n, kept, err := t.writeOrKeep(p)
	if kept && t.onKept != nil {
		t.onKept()
	}
	return n, err
}

// writeOrKeep is Write; kept says that not all of p has left.
func (t *Transport) writeOrKeep(p []byte) (n int, kept bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return 0, false, t.err
	}
	if len(t.over) == 0 && !t.flushing {
		if n, t.err = t.try.tryWrite(p); t.err != nil {
			return n, false, t.err
		}
	}
	if n < len(p) {
		if !t.ours.Load() {
			t.aside += len(p) - n
		}
		if t.aside > maxAside || t.kept.Load()+int64(len(p)-n) > t.limit {
			t.err = errOverflow
			return n, false, t.err
		}
		if t.over == nil {
			t.over = (*overflows.Get().(*[]byte))[:0]
		}
		t.over = append(t.over, p[n:]...)
		t.kept.Add(int64(len(p) - n))
	}
	return len(p), n < len(p), nil
}

// errOverflow ends a connection whose peer has TLS answer more (key updates) than it reads.
var errOverflow = errors.New("hbone: too much waits for the network")

var overflows = sync.Pool{New: func() any { return new([]byte) }}

// held says whether bytes wait for the network.
func (t *Transport) held() bool { return t != nil && t.kept.Load() > 0 }

// flush writes what waits and waits for the network. One may call it at a time.
func (t *Transport) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.over) > 0 && t.err == nil {
		p := t.over
		t.over, t.aside, t.flushing = nil, 0, true
		t.mu.Unlock()
		_, err := t.Conn.Write(p)
		t.kept.Add(-int64(len(p)))
		if cap(p) <= maxControlQueue {
			overflows.Put(&p)
		}
		t.mu.Lock()
		t.flushing = false
		if t.err == nil {
			t.err = err
		}
	}
	return t.err
}
