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
	// LocalOnly says that requests are for endpoints of our own network only, as another network's side has chosen this one. Otherwise two waypoints could send them to each other for ever.
	LocalOnly bool
	// Table gives what routes a request by the configuration of now.
	Table func() *Table
	// Left, if there is one, says whether the service is not behind the waypoint any more. Clients are told then, by each answer, to come by a new connection, which goes elsewhere.
	Left func() bool
	// Admit decides whether the peer may ask this, as it came, of the service; AdmitTo whether it may be sent as a rule makes it to a service, which may be the same one. Strange says that the rule is
	// of another namespace than that service: its author may be who asks. Their errors are the reasons why not.
	Admit   func(r *Asked) error
	AdmitTo func(service mesh.ServiceKey, port uint16, r *Asked, strange bool) error
}

func (v *Visit) left() bool { return v != nil && v.Left != nil && v.Left() }

type visitKey struct{}

// visitOf is the visit that a request belongs to; nil: it came by a listener's own port.
func visitOf(ctx context.Context) *Visit {
	v, _ := ctx.Value(visitKey{}).(*Visit)
	return v
}

// Unrouted names what stands in ServiceTable for routes of a namespace's service that has none. No route is called so.
func Unrouted(namespace string) mesh.RouteKey {
	return mesh.RouteKey{Namespace: namespace, Name: "(none)"}
}

// ServiceTable routes what is sent to a port of a service; without routes everything goes to the service itself.
func ServiceTable(service mesh.ServiceKey, port uint16, routes []*mesh.HTTPRoute, routed bool) *Table {
	if !routed {
		routes = []*mesh.HTTPRoute{{Namespace: service.Namespace, Name: Unrouted(service.Namespace).Name, Rules: []mesh.HTTPRule{{
			Matches: []mesh.HTTPMatch{{Path: "/"}}, Backends: []mesh.HTTPBackend{{Service: service, Port: port, Weight: 1}},
		}}}}
	}
	return NewTable([]mesh.Listener{{Name: "waypoint", Port: port, Protocol: mesh.ListenerHTTP, Routes: routes}})
}

// Inside serves the requests in tunnels of the mesh.
type Inside struct {
	server *Server
	door   *door
	late   *door // set before the door closes; serves what was let into a tunnel before its client knew of the drain
}

// door takes connections in until it drains.
type door struct {
	port    *Port
	arrived *arrivals
	ended   chan struct{}
}

// NewInside makes an Inside, which serves until it is closed.
func (s *Server) NewInside() *Inside { return &Inside{server: s, door: s.newDoor(true)} }

// newDoor opens a door, whose connections stay for more than one request or do not.
func (s *Server) newDoor(stay bool) *door {
	d := &door{port: s.NewPort([]mesh.Listener{{Name: "waypoint", Protocol: mesh.ListenerHTTP}}), arrived: &arrivals{conns: make(chan net.Conn), closed: make(chan struct{})}, ended: make(chan struct{})}
	d.port.inside = true
	d.port.http.SetKeepAlivesEnabled(stay)
	d.port.http.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, visitKey{}, conn.(*visiting).visit)
	}
	go func() {
		defer close(d.ended)
		d.port.Serve(d.arrived)
	}()
	return d
}

func (d *door) drain(ctx context.Context) {
	d.port.Drain(ctx)
	<-d.ended
}

// enter hands a connection in, and says whether the door was still open.
func (d *door) enter(ctx context.Context, in *visiting) (bool, error) {
	select {
	case d.arrived.conns <- in:
		return true, nil
	case <-d.arrived.closed:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// Serve serves the requests of a connection until it is over, or ctx is, which cuts it.
func (i *Inside) Serve(ctx context.Context, conn relay.Conn, v *Visit) error {
	in := &visiting{Conn: conn, visit: v, over: make(chan struct{})}
	taken, err := i.door.enter(ctx, in)
	if !taken && err == nil {
		taken, err = i.late.enter(ctx, in)
	}
	switch {
	case err != nil:
		return err
	case !taken:
		return net.ErrClosed
	}
	select {
	case <-in.over:
		return nil
	case <-ctx.Done():
		_ = in.Close() // it ends anyhow
		return context.Cause(ctx)
	}
}

// Drain has no connection stay for another request, and waits for the requests that run, which it cuts when ctx ends. Connections that come
// from now on are served for one request each, until Close. It is called once.
func (i *Inside) Drain(ctx context.Context) {
	i.late = i.server.newDoor(false)
	i.door.drain(ctx)
}

// Close takes no more connections, after Drain, and waits for requests that run as that does.
func (i *Inside) Close(ctx context.Context) { i.late.drain(ctx) }

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

// forwarded are the headers by which proxies tell what a client is.
var forwarded = [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// keepForwarded puts back what proxies before this one said of the client: inside the mesh the one before is no stranger.
func keepForwarded(out, in http.Header) {
	for _, name := range forwarded {
		if values := in[name]; values != nil {
			out[name] = values
		}
	}
}
