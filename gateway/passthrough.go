// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// tlsPort is a bound port whose TLS connections are passed on, unread, by the name that their ClientHello asks for. It knows no identity of its
// clients: the gateway's policies judge them by where they come from and what they ask for.
type tlsPort struct {
	server *Server
	socket net.Listener
	port   uint16 // the Gateway's
	names  atomic.Pointer[serverNames]
	ctx    context.Context // ends when what still runs is to be cut
	cut    context.CancelFunc
	wait   sync.WaitGroup // accept loop, connections
}

// bindTLS makes the ports for TLS those of the configuration: those that are gone give up their sockets first, for another protocol may want them.
func (s *Server) bindTLS(listeners []mesh.Listener) (failures error) {
	wanted := map[uint16][]mesh.Listener{}
	for _, l := range listeners {
		if l.Protocol == mesh.ListenerTLS {
			wanted[l.Bind] = append(wanted[l.Bind], l)
		}
	}
	for bind, p := range s.tlsPorts {
		if wanted[bind] != nil {
			continue
		}
		delete(s.tlsPorts, bind)
		p.socket.Close()
		s.o.Log.Info("draining a listener that is gone", "bind", bind)
		s.wait.Go(func() {
			ctx, cancel := context.WithTimeout(s.hard, s.o.Drain)
			defer cancel()
			p.drain(ctx)
		})
	}
	for bind, want := range wanted {
		p := s.tlsPorts[bind]
		if p == nil {
			socket, err := s.o.Listen(bind)
			if err != nil {
				failures = errors.Join(failures, fmt.Errorf("listener %q: listen on port %d: %w", want[0].Name, bind, err))
				continue
			}
			p = &tlsPort{server: s, socket: socket, port: want[0].Port}
			p.ctx, p.cut = context.WithCancel(s.hard)
			p.names.Store(newServerNames(want))
			p.wait.Go(p.accept)
			s.tlsPorts[bind] = p
			s.o.Log.Info("listening for TLS", "listener", want[0].Name, "port", want[0].Port, "bind", bind)
			continue
		}
		p.names.Store(newServerNames(want))
	}
	return failures
}

func (p *tlsPort) accept() {
	s := p.server
	pause := 5 * time.Millisecond
	for {
		nc, err := p.socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors or memory: wait for others to give some back
			s.o.Log.Error(err, "accepting failed", "port", p.port, "retryIn", pause.String())
			select {
			case <-time.After(pause):
			case <-p.ctx.Done():
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		if !s.takeStranger() {
			nc.Close()
			continue
		}
		p.wait.Go(func() {
			defer s.giveStranger()
			defer nc.Close()
			p.serve(relay.AsConn(nc))
		})
	}
}

// drain takes no more connections, and waits for those that run until ctx ends, which cuts them.
func (p *tlsPort) drain(ctx context.Context) {
	p.socket.Close()
	defer p.cut()
	defer context.AfterFunc(ctx, p.cut)()
	p.wait.Wait()
}

// serve carries one connection until it ends.
func (p *tlsPort) serve(client relay.Conn) {
	s := p.server
	name, hello, err := p.hello(client)
	if errors.Is(err, errLimit) {
		return // counted
	}
	r := s.begin(mesh.Identity{}, client.RemoteAddr(), name, nil)
	r.tunnel = "tls"
	if err != nil {
		r.refused(&Refusal{http.StatusBadRequest, ReasonNotTLS, err}, nil)
		return
	}
	ctx, end := context.WithCancelCause(p.ctx)
	defer end(nil)
	st := &stream{mesh.Identity{}, addressOf(client.RemoteAddr()), ctx, end}
	s.streams.add(st)
	defer s.streams.remove(st)
	dialling, stop := whileThere(ctx, client)
	d, refusal := p.admit(dialling, st, name)
	hello = append(hello, stop()...)
	if refusal != nil {
		// The connection just ends: the Gateway API's suite takes an alert for an answer, as it might be the backend's.
		r.refused(refusal, nil)
		return
	}
	defer s.streamQuota.give(mesh.Identity{})
	defer s.services.give(d.service)
	defer s.judge(d)
	defer d.conn.Close()
	r.dialled(d)
	r.opened()
	// A connection that was just made has room for it, so nobody waits here.
	n, err := d.conn.Write(hello)
	r.stats.Sent.Add(int64(n))
	if err == nil {
		err = relay.Copy(ctx, client, d.conn, &r.stats)
	}
	r.closed(err, p.ctx.Err() != nil)
}

// hello reads what the client begins with, within the bounds of any handshake.
func (p *tlsPort) hello(client relay.Conn) (name string, read []byte, err error) {
	s := p.server
	from := addressOf(client.RemoteAddr())
	if !s.handshakes.take(from) {
		s.metrics.limited.WithLabelValues("handshakes").Inc()
		return "", nil, errLimit
	}
	defer s.handshakes.give(from)
	defer context.AfterFunc(p.ctx, func() { client.Close() })()
	_ = client.SetReadDeadline(time.Now().Add(s.o.Limits.HandshakeTimeout)) // fails only on a connection that is over, as will the read
	name, read, err = readClientHello(client)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no ClientHello within %s", s.o.Limits.HandshakeTimeout)
	}
	_ = client.SetReadDeadline(time.Time{})
	return name, read, err
}

// admit decides whether a connection is passed on, and where to. If it is, it counts. ctx is for finding that out.
func (p *tlsPort) admit(ctx context.Context, st *stream, name string) (dialled, *Refusal) {
	s := p.server
	unavailable := func(reason Reason, err error) *Refusal { return &Refusal{http.StatusServiceUnavailable, reason, err} }
	route := p.names.Load().route(name)
	if route == nil {
		return dialled{}, &Refusal{http.StatusNotFound, ReasonNoRoute, nil}
	}
	at := route.Namespace + "/" + route.Name
	backend, ok := pickBackend(route.Backends, rand.Uint64N)
	if !ok || backend.Problem != "" {
		return dialled{}, unavailable(ReasonNoBackend, fmt.Errorf("TLSRoute %s: %s", at, backend.Problem))
	}
	service := s.live.Load().Service(backend.Service)
	if service == nil {
		return dialled{}, unavailable(ReasonNoBackend, fmt.Errorf("TLSRoute %s: service %s is not known", at, backend.Service))
	}
	var c *config
	t := target{service: service, port: backend.Port, plain: true}
	for { // as decide does
		c = s.config.Load()
		t.vip = c.vip(service, t.vip)
		if refusal := s.authorize(c, st, t); refusal != nil {
			return dialled{}, refusal
		}
		if s.streams.admit(st, admission{t, c}); s.config.Load() == c {
			break
		}
	}
	if !s.streamQuota.take(st.peer) {
		s.metrics.limited.WithLabelValues("streams").Inc()
		return dialled{}, unavailable(ReasonOverload, nil)
	}
	if !s.services.take(backend.Service) {
		s.streamQuota.give(st.peer)
		s.metrics.limited.WithLabelValues("streams_per_service").Inc()
		return dialled{}, unavailable(ReasonServiceOverload, fmt.Errorf("service %s", backend.Service))
	}
	d, refusal := s.dial(ctx, c, t, nil)
	if revoked := st.revoked(); revoked != nil {
		if refusal == nil {
			d.conn.Close()
			s.judge(d)
		}
		refusal = revoked
	}
	if d.service = backend.Service; refusal != nil {
		s.streamQuota.give(st.peer)
		s.services.give(backend.Service)
	}
	return d, refusal
}
