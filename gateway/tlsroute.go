// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
)

// serveTLS carries one connection until it ends, as it is or without its TLS. It is true if the connection was left to the port's listeners for HTTPS instead, which
// end it. What the client asks for counts for the listeners that there are by then.
func (p *streamPort) serveTLS(client relay.Conn) (left bool) {
	name, hello, err := p.hello(client)
	if errors.Is(err, stranger.ErrCrowded) {
		return false // counted
	}
	w := p.ways.Load()
	if err == nil && w.tcp {
		p.serveTCP(&replayed{Conn: client, read: hello}, w)
		return false
	}
	if err == nil && w.requests(name) {
		return w.web.take(&replayed{Conn: client, read: hello})
	}
	p.stream(client, w, name, hello, err)
	return false
}

// stream carries a connection whose ClientHello was read, or why it could not be.
func (p *streamPort) stream(client relay.Conn, w *ways, name string, hello []byte, err error) {
	s := p.server
	r := s.begin(mesh.Identity{}, client.RemoteAddr(), name, nil)
	r.tunnel = "tls"
	if err != nil {
		r.refused(&Refusal{http.StatusBadRequest, ReasonNotTLS, err}, nil)
		return
	}
	st, done := p.open(client)
	defer done()
	// A connection that is refused just ends: the Gateway API's suite takes an alert for an answer, as it might be the backend's.
	host, route := w.tlsRoute(name)
	if route == nil {
		r.refused(&Refusal{http.StatusNotFound, ReasonNoRoute, nil}, nil)
		return
	}
	t, refusal := p.admit(st, w.port, "TLSRoute "+route.Namespace+"/"+route.Name, route.Backends)
	if refusal != nil {
		r.refused(refusal, nil)
		return
	}
	defer p.leave(t)
	if !host.passes {
		r.tunnel = "tls-ended"
		ended, err := p.end(st, client, hello, host.ends)
		if err != nil {
			r.refused(&Refusal{http.StatusBadRequest, ReasonHandshake, err}, nil)
			return
		}
		client, hello = ended, nil
		// What ended here goes on in TLS to backends that want it. A client that was passed on speaks it with them itself.
		if t.tls = s.backends.Load().For(t.named, t.port); t.tls != nil && t.tls.Problem() != nil {
			r.refused(unavailable(ReasonBackendTLS, t.tls.Problem()), nil)
			return
		}
	}
	dialling, stop := st.ctx, func() []byte { return nil }
	if host.passes { // what ended here may have ended its side, and wait for an answer
		dialling, stop = whileThere(st.ctx, client)
	}
	to, refusal := p.connect(dialling, st, t)
	hello = append(hello, stop()...)
	if refusal != nil {
		r.refused(refusal, nil)
		return
	}
	p.carry(r, st, client, to, hello)
}

// tlsRoute is the route that has a name at the listener that the name belongs to; nil: there is none.
func (w *ways) tlsRoute(name string) (*tlsHost, *mesh.TLSRoute) {
	host, ok := w.hosts.find(name)
	if !ok {
		return nil, nil
	}
	route, _ := host.routes.find(name)
	return host, route
}

// hello reads what the client begins with, within the bounds of any handshake.
func (p *streamPort) hello(client relay.Conn) (name string, read []byte, err error) {
	s := p.server
	err = p.handshaking(client, func(unknown *stranger.Conn) (err error) {
		name, read, err = readClientHello(unknown)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no ClientHello within %s", s.o.Limits.HandshakeTimeout)
		}
		return err
	})
	return name, read, err
}

// handshaking does a part of a handshake within the bounds of any handshake. It fails with stranger.ErrCrowded, which is counted then, if there are too many.
func (p *streamPort) handshaking(client relay.Conn, do func(*stranger.Conn) error) error {
	s := p.server
	unknown, err := s.strangers.Enter(client, s.turns)
	if err != nil {
		s.metrics.limited.WithLabelValues("handshakes").Inc()
		return err
	}
	defer unknown.Leave()
	defer context.AfterFunc(p.ctx, func() { client.Close() })()
	_ = client.SetDeadline(time.Now().Add(s.o.Limits.HandshakeTimeout)) // fails only on a connection that is over, as will the rest
	err = do(unknown)
	_ = client.SetDeadline(time.Time{})
	if errors.Is(err, stranger.ErrCrowded) {
		s.metrics.limited.WithLabelValues("handshakes").Inc()
	}
	return err
}

// errNoCertificate refuses a handshake at a listener without a certificate that can be used.
var errNoCertificate = errors.New("the listener has no certificate")

// end ends the client's TLS, of which hello was read already.
func (p *streamPort) end(st *stream, client relay.Conn, hello []byte, config *tls.Config) (relay.Conn, error) {
	if config == nil {
		return nil, errNoCertificate
	}
	again := &replayed{Conn: client, read: hello}
	secure := tls.Server(again, config)
	err := p.handshaking(client, func(unknown *stranger.Conn) error {
		if err := unknown.Turn(st.ctx); err != nil {
			return err
		}
		again.from = unknown
		defer func() { again.from = nil }()
		return secure.HandshakeContext(st.ctx)
	})
	return secure, err
}

// replayed gives what was read of a connection once more, and then the rest.
type replayed struct {
	relay.Conn
	read []byte
	from io.Reader // read instead of the connection, if not nil: belongs to who reads, as the library may close the connection at any time, even after a handshake
}

// Read gives what was read before first.
func (c *replayed) Read(b []byte) (int, error) {
	switch {
	case len(c.read) > 0:
	case c.from != nil:
		return c.from.Read(b)
	default:
		return c.Conn.Read(b)
	}
	n := copy(b, c.read)
	if c.read = c.read[n:]; len(c.read) == 0 {
		c.read = nil
	}
	return n, nil
}

// Reset ends the connection so that the client sees an error and takes a broken stream for no complete one.
func (c *replayed) Reset(uint32) error {
	refuseTCP(c.Conn)
	return nil
}
