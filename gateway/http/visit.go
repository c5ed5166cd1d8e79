// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// Visit is a connection that came in a tunnel of the mesh: who is there, and what was asked for.
type Visit struct {
	// Peer is what the tunnel's other end proved.
	Peer    mesh.Identity
	Service mesh.ServiceKey
	Port    uint16
	// Table gives what routes a request by the configuration of now.
	Table func() *Table
	// Admit decides whether the peer may ask anything of the service, AdmitTo of another one that a rule leads to; their errors are the reasons why not.
	Admit   func() error
	AdmitTo func(service mesh.ServiceKey, port uint16) error
}

type visitKey struct{}

// visitOf is the visit that a request belongs to; nil: it came by a listener's own port.
func visitOf(ctx context.Context) *Visit {
	v, _ := ctx.Value(visitKey{}).(*Visit)
	return v
}

// ServiceTable routes what is sent to a port of a service; without routes everything goes to the service itself.
func ServiceTable(service mesh.ServiceKey, port uint16, routes []*mesh.HTTPRoute, routed bool) *Table {
	if !routed {
		routes = []*mesh.HTTPRoute{{Namespace: service.Namespace, Name: "(none)", Rules: []mesh.HTTPRule{{
			Matches: []mesh.HTTPMatch{{Path: "/"}}, Backends: []mesh.HTTPBackend{{Service: service, Port: port, Weight: 1}},
		}}}}
	}
	return NewTable([]mesh.Listener{{Name: "waypoint", Port: port, Protocol: mesh.ListenerHTTP, Routes: routes}})
}

// Inside serves the requests in tunnels of the mesh.
type Inside struct {
	port    *Port
	arrived *arrivals
	ended   chan struct{}
}

// NewInside makes an Inside, which serves until it drains.
func (s *Server) NewInside() *Inside {
	i := &Inside{port: s.NewPort([]mesh.Listener{{Name: "waypoint", Protocol: mesh.ListenerHTTP}}), arrived: &arrivals{conns: make(chan net.Conn), closed: make(chan struct{})}, ended: make(chan struct{})}
	i.port.http.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, visitKey{}, conn.(*visiting).visit)
	}
	go func() {
		defer close(i.ended)
		i.port.Serve(i.arrived)
	}()
	return i
}

// Serve serves the requests of a connection until it is over, or ctx is, which cuts it.
func (i *Inside) Serve(ctx context.Context, conn relay.Conn, v *Visit) error {
	in := &visiting{Conn: conn, visit: v, over: make(chan struct{})}
	select {
	case i.arrived.conns <- in:
	case <-i.arrived.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-in.over:
		return nil
	case <-ctx.Done():
		_ = in.Close() // it ends anyhow
		return context.Cause(ctx)
	}
}

// Drain takes no more connections and requests, waits for those that run, and cuts what is left when ctx ends.
func (i *Inside) Drain(ctx context.Context) {
	i.port.Drain(ctx)
	<-i.ended
}

// visiting is a connection that tells when it is over.
type visiting struct {
	relay.Conn
	visit *Visit
	once  sync.Once
	over  chan struct{}
}

// Close ends it.
func (v *visiting) Close() error {
	err := v.Conn.Close()
	v.once.Do(func() { close(v.over) })
	return err
}

// arrivals are connections that come from elsewhere than a socket.
type arrivals struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// Accept waits for the next one.
func (a *arrivals) Accept() (net.Conn, error) {
	select {
	case conn := <-a.conns:
		return conn, nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

// Close lets nothing more in.
func (a *arrivals) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

// Addr is nowhere.
func (a *arrivals) Addr() net.Addr { return &net.TCPAddr{} }

// keepForwarded puts back what proxies before this one said of the client: inside the mesh the one before is no stranger.
func keepForwarded(out, in http.Header) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := in[name]; values != nil {
			out[name] = values
		}
	}
}
