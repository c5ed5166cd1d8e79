// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// maxDatagram is the most that a datagram can carry, in bytes (RFC 768: its length has 16 bits).
	maxDatagram = 64 << 10
	// refusedFor is how long an endpoint that refused a datagram gets none while there are others.
	refusedFor = 10 * time.Second
	// refusalEvery is how often a port writes of refused datagrams into the access log: anybody can send any number of them.
	refusalEvery = time.Second
)

// udpPort is a bound port whose datagrams go to backends of a UDPRoute. Those of one client, an address and port, go to one endpoint, from a socket
// of the client's own, by which answers are known to be for it.
type udpPort struct {
	server *Server
	socket *net.UDPConn
	port   atomic.Uint32 // the Gateway's
	ctx    context.Context
	cut    context.CancelFunc
	wait   sync.WaitGroup // the reader, clients

	route atomic.Pointer[mesh.StreamRoute] // nil: datagrams are dropped

	mu       sync.Mutex // hold for all below
	clients  map[netip.AddrPort]*udpClient
	refused  map[netip.AddrPort]time.Time // endpoints → until when they are passed over
	draining bool
	written  time.Time // when a refusal was last written
}

// bindDatagrams makes the ports for UDP those of the configuration. One that is gone ends at once: its clients have no connection to lose.
func (s *Server) bindDatagrams(listeners []mesh.Listener) (failures error) {
	wanted := map[uint16]mesh.Listener{}
	for _, l := range listeners {
		if l.Protocol == mesh.ListenerUDP {
			wanted[l.Bind] = l
		}
	}
	for bind, p := range s.udpPorts {
		if _, ok := wanted[bind]; !ok {
			delete(s.udpPorts, bind)
			p.close()
			s.wait.Go(p.wait.Wait)
		}
	}
	for bind, l := range wanted {
		if p := s.udpPorts[bind]; p != nil {
			p.port.Store(uint32(l.Port))
			p.configure(l.Stream)
			continue
		}
		socket, err := s.o.ListenUDP(bind)
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("listener %q: listen on UDP port %d: %w", l.Name, bind, err))
			continue
		}
		p := &udpPort{
			server: s, socket: socket,
			clients: map[netip.AddrPort]*udpClient{}, refused: map[netip.AddrPort]time.Time{},
		}
		p.port.Store(uint32(l.Port))
		p.ctx, p.cut = context.WithCancel(s.hard)
		context.AfterFunc(p.ctx, func() { socket.Close() })
		p.route.Store(l.Stream)
		p.wait.Go(p.read)
		s.udpPorts[bind] = p
		s.o.Log.Info("listening for datagrams", "listener", l.Name, "port", l.Port, "bind", bind)
	}
	return failures
}

// listenUDP is the ListenUDP that a Server uses unless told otherwise.
func listenUDP(bind uint16) (*net.UDPConn, error) {
	return net.ListenUDP("udp", &net.UDPAddr{Port: int(bind)})
}

// dialUDP is the DialUDP that a Server uses unless told otherwise.
func dialUDP(to netip.AddrPort) (*net.UDPConn, error) {
	return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
}

// close takes no more datagrams and forgets all clients.
func (p *udpPort) close() { p.cut() }

// drain takes no new clients, and waits for those that there are to fall silent, until ctx ends.
func (p *udpPort) drain(ctx context.Context) {
	p.mu.Lock()
	p.draining = true
	none := len(p.clients) == 0
	p.mu.Unlock()
	if none {
		p.cut()
	}
	defer p.cut()
	defer context.AfterFunc(ctx, p.cut)()
	p.wait.Wait()
}

// configure has new clients go by another route. Those whose endpoint is no longer one of it begin anew with their next datagram.
func (p *udpPort) configure(route *mesh.StreamRoute) {
	p.route.Store(route)
	there := map[netip.AddrPort]bool{}
	if route != nil {
		for _, b := range route.Backends {
			for _, e := range b.Endpoints {
				there[e] = there[e] || b.Weight > 0
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := range p.refused {
		if !there[e] {
			delete(p.refused, e)
		}
	}
	for _, c := range p.clients {
		if !there[c.endpoint] {
			c.st.end(errMoved)
		}
	}
}

// read takes datagrams until the socket is closed.
func (p *udpPort) read() {
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := p.socket.ReadFromUDPAddrPort(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // of a datagram that could not be sent, perhaps; the socket stays
			select {
			case <-time.After(5 * time.Millisecond):
			case <-p.ctx.Done():
				return
			}
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if c := p.client(from); c != nil {
			c.send(buffer[:n])
		}
	}
}

// client finds who sent a datagram, or takes in who has not been heard of; nil: the datagram is dropped.
func (p *udpPort) client(from netip.AddrPort) *udpClient {
	p.mu.Lock()
	c, draining := p.clients[from], p.draining
	p.mu.Unlock()
	if c != nil && c.answered.Load() {
		p.server.crowd.heard(c)
	}
	if c != nil && c.st.ctx.Err() == nil || draining {
		return c
	}
	if c != nil {
		p.forget(c) // it ends, and this datagram begins anew
	}
	return p.take(from)
}

// take takes in a client, if there is room and the route and the policies have it so.
func (p *udpPort) take(from netip.AddrPort) *udpClient {
	s := p.server
	took := s.clients.take(from.Addr())
	if !took && s.clients.used() >= s.o.Limits.DatagramClients && s.crowd.makeRoom() { // else it is this address that has too many
		took = s.clients.take(from.Addr())
	}
	if !took {
		s.metrics.limited.WithLabelValues("datagram_clients").Inc()
		return nil
	}
	ctx, end := context.WithCancelCause(p.ctx)
	st := &stream{from: from.Addr(), ctx: ctx, end: end}
	s.streams.add(st)
	c := &udpClient{port: p, from: from, st: st}
	refusal := c.begin()
	if refusal != nil {
		s.streams.remove(st)
		end(nil)
		s.clients.give(from.Addr())
		p.refuse(from, refusal)
		return nil
	}
	p.mu.Lock()
	p.clients[from] = c
	p.mu.Unlock()
	s.crowd.add(c)
	p.wait.Go(c.run)
	return c
}

// forget takes a client out, if it is still there, and gives its place back.
func (p *udpPort) forget(c *udpClient) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[c.from] != c {
		return
	}
	delete(p.clients, c.from)
	p.server.crowd.remove(c)
	p.server.clients.give(c.from.Addr())
	if p.draining && len(p.clients) == 0 {
		p.cut()
	}
}

// refuse counts a datagram that goes nowhere, and writes of one now and then.
func (p *udpPort) refuse(from netip.AddrPort, refusal *Refusal) {
	s := p.server
	now := s.o.Now()
	p.mu.Lock()
	write := now.Sub(p.written) >= refusalEvery
	if write {
		p.written = now
	}
	p.mu.Unlock()
	if !write {
		s.metrics.refused.WithLabelValues(string(refusal.Reason)).Inc()
		return
	}
	r := s.begin(mesh.Identity{}, net.UDPAddrFromAddrPort(from), "", nil)
	r.tunnel = "udp"
	r.refused(refusal, nil)
}

// choose picks a backend by weight, and one of its endpoints by chance, without those that refused lately if there are others.
func (p *udpPort) choose() (mesh.StreamBackend, netip.AddrPort, *Refusal) {
	route := p.route.Load()
	if route == nil {
		return mesh.StreamBackend{}, netip.AddrPort{}, unavailable(ReasonNoRoute, nil)
	}
	at := "UDPRoute " + route.Namespace + "/" + route.Name
	b, ok := pickBackend(route.Backends, rand.Uint64N)
	if !ok || b.Problem != "" {
		return b, netip.AddrPort{}, unavailable(ReasonNoBackend, fmt.Errorf("%s: %s", at, b.Problem))
	}
	if len(b.Endpoints) == 0 {
		return b, netip.AddrPort{}, unavailable(ReasonNoEndpoint, fmt.Errorf("%s: service %s", at, b.Service))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	left := b.Endpoints
	if len(p.refused) > 0 {
		now := p.server.o.Now()
		left = slices.DeleteFunc(slices.Clone(left), func(e netip.AddrPort) bool { return now.Before(p.refused[e]) })
		if len(left) == 0 {
			left = b.Endpoints
		}
	}
	return b, left[rand.IntN(len(left))], nil
}

// refusedBy notes that an endpoint refused a datagram.
func (p *udpPort) refusedBy(endpoint netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[endpoint] = p.server.o.Now().Add(refusedFor)
}
