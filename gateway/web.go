// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// webPort serves the listeners for HTTP that share a port. Connections are brought to it.
type webPort struct {
	server *Server
	port   *gatewayhttp.Port
	calls  *brought
	wait   sync.WaitGroup
}

// newWebPort begins to serve listeners that share a port, at an address. Those for TLS among them take no requests, and keep theirs from the others.
func (s *Server) newWebPort(address net.Addr, listeners []mesh.Listener) *webPort {
	w := &webPort{server: s, port: s.web.NewPort(listeners), calls: &brought{address: address, conns: make(chan net.Conn), over: make(chan struct{})}}
	w.wait.Go(func() { w.port.Serve(w.calls) })
	return w
}

// take serves a connection that was counted with takeStranger; false: it drains, and has not touched it.
func (w *webPort) take(conn net.Conn) bool {
	select {
	case w.calls.conns <- &countedConn{Conn: conn, s: w.server}:
		return true
	case <-w.calls.over:
		return false
	}
}

// drain takes no more connections and requests, and waits for those that run, until ctx ends, which cuts them.
func (w *webPort) drain(ctx context.Context) {
	_ = w.calls.Close() // which never fails
	w.port.Drain(ctx)
	w.wait.Wait()
}

// brought are connections that somebody else has accepted, as a socket.
type brought struct {
	address net.Addr
	conns   chan net.Conn
	over    chan struct{}
	once    sync.Once
}

// Accept waits for the next connection.
func (b *brought) Accept() (net.Conn, error) {
	select {
	case conn := <-b.conns:
		return conn, nil
	case <-b.over:
		return nil, net.ErrClosed
	}
}

// Close takes no more connections.
func (b *brought) Close() error {
	b.once.Do(func() { close(b.over) })
	return nil
}

// Addr is that of the socket by which they came.
func (b *brought) Addr() net.Addr { return b.address }

// takeStranger counts a connection that will prove no identity. All of these together are one peer: they must not keep those out that prove one. Nor must those of one address keep
// out those of others.
func (s *Server) takeStranger(from net.Addr) bool {
	if !s.addresses.take(placeOfAddress(from)) {
		s.metrics.limited.WithLabelValues("connections_per_address").Inc()
		return false
	}
	if !s.connections.take(struct{}{}) {
		s.addresses.give(placeOfAddress(from))
		s.metrics.limited.WithLabelValues("connections").Inc()
		return false
	}
	if !s.peers.take(mesh.Identity{}) {
		s.connections.give(struct{}{})
		s.addresses.give(placeOfAddress(from))
		s.metrics.limited.WithLabelValues("connections_per_peer").Inc()
		return false
	}
	return true
}

// giveStranger gives the place back.
func (s *Server) giveStranger(from net.Addr) {
	s.addresses.give(placeOfAddress(from))
	s.peers.give(mesh.Identity{})
	s.connections.give(struct{}{})
}

// placeOfAddress is what shares one address's places: the network, for IPv6, of which a host has as many addresses as it likes.
func placeOfAddress(a net.Addr) netip.Prefix {
	host := addressOf(a)
	bits := 32
	if host.Is6() {
		bits = 64
	}
	p, _ := host.Prefix(bits) // fails for the zero address only: one place for all that are not known
	return p
}

type countedConn struct {
	net.Conn
	s    *Server
	once sync.Once
}

// Close gives the place back.
func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.s.giveStranger(c.RemoteAddr()) })
	return err
}

// errDenied is for requests that policies do not let in.
var errDenied = errors.New("no policy of the gateway allows the request")

// admitRequest asks the gateway's policies about a client of a listener for HTTP, which has proved no identity.
func (s *Server) admitRequest(from netip.Addr, port uint16, r *gatewayhttp.Asked) error {
	c := s.config.Load()
	if len(c.gateway.Policies) == 0 {
		return nil
	}
	return s.verdict(c.judge(authz.Caller{Source: from}, r, target{port: port}))
}

// admitRequestTo asks the policies of a service about a client of a listener for HTTP. Those of the gateway have been asked, about the listener's port.
func (s *Server) admitRequestTo(from netip.Addr, key mesh.ServiceKey, port uint16, r *gatewayhttp.Asked) error {
	c := s.config.Load()
	of := c.policies.of[key]
	if of == nil {
		return nil
	}
	return s.verdict(judgeBy([]*authz.Index{of.index()}, authz.Caller{Source: from, Destination: s.destination(c, key, port)}, r))
}

// destination is where in our network a service is.
func (s *Server) destination(c *config, key mesh.ServiceKey, port uint16) netip.AddrPort {
	var vip netip.Addr
	if service := s.live.Load().Service(key); service != nil {
		vip = c.vip(service, vip)
	}
	return netip.AddrPortFrom(vip, port)
}

// verdict gives what policies have decided about a request: nil, or why not.
func (s *Server) verdict(v authz.Verdict) error {
	if v.DryAllowed != v.Allowed {
		s.metrics.dryRun.Inc()
	}
	switch {
	case v.Allowed:
		return nil
	case v.Policy == "":
		return errDenied
	default:
		return fmt.Errorf("policy %s denies it", v.Policy)
	}
}

// webNetwork is the network whose endpoints requests go to.
func (s *Server) webNetwork() string {
	if c := s.config.Load(); c != nil {
		return c.network
	}
	return s.o.Network
}
