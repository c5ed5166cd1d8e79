// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// isWaypoint says whether the gateway stands in front of services inside the mesh.
func (c *config) isWaypoint() bool { return c.gateway.Service != mesh.ServiceKey{} }

// workloadBehind is the workload at an address of the waypoint's network that is behind the waypoint by itself, or was until lately; nil: there is none.
func (c *config) workloadBehind(v workloads, at netip.Addr) *mesh.Workload {
	if !c.isWaypoint() || !at.IsValid() {
		return nil
	}
	w := v.OwnerAt(c.network, at)
	if w == nil || !c.behind(v, w) && (c.strayed == nil || !c.strayed(w.UID)) {
		return nil
	}
	return w
}

// behind says whether a workload is behind the waypoint by itself.
func (c *config) behind(v workloads, w *mesh.Workload) bool {
	if w.Waypoint == nil {
		return false
	}
	front := w.Waypoint.Hostname
	if front.Hostname == "" {
		if s := v.ServiceAt(w.Waypoint.Addr.Network, w.Waypoint.Addr.Addr, c.gateway.Namespace); s != nil {
			front = s.Key()
		}
	}
	return front == c.gateway.Service
}

// serves says whether a target that was let in to is still served. A workload is, wherever its traffic goes by now: what judges it are the policies of the waypoint
// itself.
func (c *config) serves(t target) bool {
	if t.service == nil {
		return true
	}
	_, served := c.exported[t.key()]
	return served
}

// workloads is what a directory knows about addresses.
type workloads interface {
	OwnerAt(network string, at netip.Addr) *mesh.Workload
	ServiceAt(network string, at netip.Addr, namespace string) *mesh.Service
}

// namespaceOf is the peer's namespace, if it is in our own trust domain: in another one anybody may bear its name.
func (c *config) namespaceOf(peer mesh.Identity) string {
	if c.canonical(peer.TrustDomain) != c.canonical(c.own) {
		return ""
	}
	return peer.Namespace
}

// far says whether a CONNECT came from another network. It is its source's word, which can but narrow where it goes.
func (c *config) far(request *hbone.Request) bool {
	from := request.Header.Get(reach.HeaderNetwork)
	return from != "" && !strings.EqualFold(from, c.network)
}

// beyond says why a stream that came to a waypoint through an east-west gateway must not go to a target: that gateway could not read what was asked for, and leads to exported services
// only. nil: it may.
func (s *Server) beyond(c *config, st *stream, t target) *Refusal {
	gateway := s.live.Load().Through(c.network, st.from, func(gateway mesh.Identity) bool {
		return s.o.Source.Expected([]mesh.Identity{gateway}, st.peer)
	})
	if gateway == nil || t.service != nil && t.service.Exported {
		return nil
	}
	return unavailable(ReasonNotExported, fmt.Errorf("asked for by %s through gateway %s/%s", st.peer, gateway.Namespace, gateway.Name))
}

// contents is what is expected inside a stream.
type contents uint8

const (
	// opaque bytes are passed on to one endpoint.
	opaque contents = iota
	// requests are routed one by one.
	requests
	// unknown is either, as its first bytes show.
	unknown
)

// expects says what is inside a stream for a target. What the Service says of its port counts; where it says nothing, routes say that there may be requests.
func (c *config) expects(t target, namespace string) contents {
	if t.service == nil {
		return opaque
	}
	switch port, _ := t.service.Port(t.port); port.App {
	case mesh.AppHTTP11, mesh.AppHTTP2, mesh.AppGRPC:
		return requests
	case mesh.AppTCP, mesh.AppTLS:
		return opaque
	}
	if _, routed := c.gateway.RoutesFor(t.service.Key(), t.port, namespace); routed {
		return unknown
	}
	return opaque
}

// tableKey names a table: routes at a port of a service, for callers of a namespace.
type tableKey struct {
	service   mesh.ServiceKey
	port      uint16
	namespace string
}

// table gives what routes the requests of a namespace's callers to a port of a service. It is made when it is first asked for.
func (c *config) table(service mesh.ServiceKey, port uint16, namespace string) *gatewayhttp.Table {
	routes, routed := c.gateway.RoutesFor(service, port, namespace)
	key := tableKey{service, port, routes.Consumer} // all other callers have the same routes, or none
	if table, ok := c.tables.Load(key); ok {
		return table.(*gatewayhttp.Table)
	}
	table, _ := c.tables.LoadOrStore(key, gatewayhttp.ServiceTable(service, port, routes.Routes, routed))
	return table.(*gatewayhttp.Table)
}

// receive answers one CONNECT to a waypoint and carries what is inside its stream.
func (l *listener) receive(request *hbone.Request, o *outer) {
	s, peer := l.server, o.peer
	r := s.begin(peer, o.address, request.Authority, request.Header)
	ctx, end := context.WithCancelCause(s.hard)
	defer end(nil)
	st := &stream{peer: peer, from: addressOf(o.address), ctx: ctx, end: end}
	s.streams.add(st)
	defer s.streams.remove(st)
	c, t, refusal := s.enter(request, o, st, true)
	if refusal != nil {
		r.refused(refusal, request.Reject(refusal.Status, hbone.Header{{Name: headerReason, Value: string(refusal.Reason)}}))
		return
	}
	defer s.idlers.carry(o)()
	defer s.streamQuota.give(peer)
	defer s.services.give(t.key())
	t.far = c.far(request)
	var to *reached
	if t.carries == opaque { // 200 means connected; of requests each one finds its endpoint
		if to, refusal = s.reach(request.Context(), cmp.Or(r.span.Traceparent(), request.Header.Get(headerTrace)), c, t, st); refusal != nil {
			r.refused(refusal, request.Reject(refusal.Status, hbone.Header{{Name: headerReason, Value: string(refusal.Reason)}}))
			return
		}
		defer to.close()
		r.reached(to)
	}
	tunnel, err := request.Accept(nil)
	if err != nil {
		r.refused(&Refusal{http.StatusServiceUnavailable, ReasonClientGone, err}, nil)
		return
	}
	defer tunnel.Close()
	r.opened()
	err = l.inside(request, c, t, st, r, tunnel, to)
	if _, refused := errors.AsType[*Refusal](err); refused {
		_ = tunnel.Reset(connectError) // so that nobody takes it for an empty answer; fails only on a stream that is over
	}
	r.closed(err, l.timeUp())
}

// connectError says that the connection behind a CONNECT failed (RFC 9113 §7).
const connectError = 0xa

// inside carries a stream that was answered. to is where it goes if it is opaque.
func (l *listener) inside(request *hbone.Request, c *config, t target, st *stream, r *record, tunnel *hbone.Stream, to *reached) error {
	s := l.server
	client := relay.Conn(tunnel)
	if t.carries == unknown {
		sniffed := newSniffer(tunnel)
		if t.carries = opaque; sniffed.isHTTP() {
			t.carries = requests
		}
		client = sniffed
	}
	if t.carries == requests {
		return l.visits.Serve(st.ctx, &counting{Conn: client, stats: &r.stats}, s.visit(st.peer, st.from, t))
	}
	if to == nil {
		s.streams.admit(st, c, t)
		refusal := s.authorize(s.config.Load(), st, t)
		if refusal != nil {
			return refusal
		}
		if to, refusal = s.reach(request.Context(), cmp.Or(r.span.Traceparent(), request.Header.Get(headerTrace)), c, t, st); refusal != nil {
			return refusal
		}
		defer to.close()
		r.reached(to)
	}
	return relay.Copy(st.ctx, client, to.conn.Conn, &r.stats) // the stream itself, which can be reset
}

// visit is what the requests inside a stream are judged and routed by, each by the configuration of its moment.
func (s *Server) visit(peer mesh.Identity, from netip.Addr, t target) *gatewayhttp.Visit {
	key := t.service.Key()
	return &gatewayhttp.Visit{
		Peer: peer, Service: key, Port: t.port, LocalOnly: t.far,
		Table: func() *gatewayhttp.Table {
			c := s.config.Load()
			return c.table(key, t.port, c.namespaceOf(peer))
		},
		Left: func() bool {
			c := s.config.Load()
			return c.left(key, c.namespaceOf(peer))
		},
		Admit: func(r *gatewayhttp.Asked) error {
			c := s.config.Load()
			if _, served := c.exported[key]; !served {
				return fmt.Errorf("service %s is not behind the waypoint any more", key) // nor are its policies known here
			}
			if c.foreign(key, c.namespaceOf(peer)) {
				return fmt.Errorf("service %s is behind the waypoint for callers of namespace %s alone", key, c.gateway.Namespace)
			}
			return s.verdict(c.judge(authz.Caller{Peer: peer, Source: from}, r, t))
		},
		AdmitTo: func(to mesh.ServiceKey, port uint16, r *gatewayhttp.Asked, strange bool) error {
			c := s.config.Load()
			if to == key && port == t.port { // whoever asks for it is judged as above, whatever a rule has made of the request
				return s.verdict(c.judge(authz.Caller{Peer: peer, Source: from}, r, t))
			}
			return s.admitOn(c, authz.Caller{Peer: peer, Source: from, Destination: s.destination(c, to, port)}, to, r, strange)
		},
	}
}

// admitOn asks the policies of a service about a request that a rule sends there. If the rule is a stranger's, and the service is behind the waypoint too, those of the waypoint
// count as if the caller had asked for that service.
func (s *Server) admitOn(c *config, caller authz.Caller, to mesh.ServiceKey, r *gatewayhttp.Asked, strange bool) error {
	var of *authz.Index
	if warden := c.policies.of[to]; warden != nil {
		of = warden.index()
		if err := s.verdict(judgeBy([]*authz.Index{of}, caller, r)); err != nil {
			return err
		}
	}
	if _, behind := c.exported[to]; !strange || !behind {
		return nil
	}
	return s.verdict(judgeBy([]*authz.Index{c.policies.ofAll.index(), of}, caller, r))
}

// counting counts the bytes of a connection.
type counting struct {
	relay.Conn
	stats *relay.Stats
}

// Read counts what came from the client.
func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.stats.Sent.Add(int64(n))
	return n, err
}

// Write counts what went to it.
func (c *counting) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.stats.Received.Add(int64(n))
	return n, err
}
