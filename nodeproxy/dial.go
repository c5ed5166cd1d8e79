// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"math/rand/v2"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// headers are what a CONNECT carries about its origin.
type headers struct {
	source *mesh.Workload
	client netip.AddrPort
	host   string // of the service that was meant
	trace  string
}

func (h headers) list() hbone.Header {
	return hbone.Header{
		{Name: headerBaggage, Value: BaggageOf(h.source).String()},
		{Name: headerForwarded, Value: Forwarded{For: h.client, Host: h.host}.String()},
		{Name: headerTrace, Value: h.trace},
	}
}

// connectUpstream decides and dials, and decides again when an endpoint fails before any byte was sent to it. It gives the plan that
// was used, or the one that failed last.
func (p *pod) connectUpstream(ctx context.Context, conn *Connection, dst netip.AddrPort) (Plan, *reach.Conn, *Refusal) {
	self := conn.self
	source, trace := Source{Network: p.proxy.networkOf(self), Workload: self}, traceparent(conn.span.Traceparent())
	a := reach.Search[*reach.Conn]{
		Health: p.health, Random: rand.Uint64N,
		Decide: func(c Choice) (Plan, *Refusal) { return Decide(p.proxy.o.View.Load(), source, dst, c) },
		Dial: func(ctx context.Context, plan Plan) (*reach.Conn, *reach.Failure) {
			h := headers{source: self, client: conn.Source, trace: trace}
			if plan.Service != nil {
				h.host = plan.Service.Hostname
			}
			return p.tunnels.Dial(ctx, self.Identity(), plan, h.list(), source.Network)
		},
		Down: func(plan Plan) { p.tunnels.Watch(self.Identity(), plan) },
		Failed: func(plan Plan, refusal *Refusal) {
			p.proxy.metrics.attemptsFailed.WithLabelValues(string(refusal.Reason), plan.Via.String()).Inc()
			p.proxy.o.Log.V(1).Info("attempt to connect failed", "workload", p.String(), "service", dst.String(), "tunnel", plan.Via.String(),
				"endpoint", plan.Picked, "destination", plan.Dial.String(), "reason", string(refusal.Reason), "cause", refusal.Err.Error())
		},
	}
	return a.Connect(ctx, dst)
}

// newTunnels makes those that a pod's connections take.
func (p *pod) newTunnels() *reach.Tunnels {
	x := p.proxy
	return reach.NewTunnels(reach.TunnelOptions{
		Certificates: x.o.Certificates, Settings: x.tunnelSettings(), Health: p.health,
		Connect:     p.dialTCP,
		Resolving:   x.metrics.namesResolved.Inc,
		Handshaking: func(which string) { x.metrics.handshakes.WithLabelValues(which).Inc() },
		Unwidened: func(err error) {
			refusal := reach.RefusalOf(err)
			x.metrics.attemptsFailed.WithLabelValues(string(refusal.Reason), reach.DoubleHBONE.String()).Inc()
			x.o.Log.V(1).Info("no further tunnel over a long way", "workload", p.String(), "reason", string(refusal.Reason), "cause", refusal.Err.Error())
		},
		Cut: func(lane int, why *reach.Refusal) {
			x.metrics.lanesCut.WithLabelValues(string(why.Reason)).Inc()
			x.o.Log.Info("one of several tunnels over a long way is silent, the others are used", "workload", p.String(), "lane", lane, "reason", string(why.Reason), "cause", why.Err.Error())
		},
	})
}

// dialTCP connects from inside the pod's namespace.
func (p *pod) dialTCP(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
	nc, _, err := p.proxy.sockets.dial(ctx, p.namespace, to, netip.Addr{}, nil)
	if err != nil {
		return nil, err
	}
	return nc, nil
}

// inners says how many inner tunnels all pods keep, and how many connections those carry.
func (ps *pods) inners() (sessions, streams int) {
	for _, p := range ps.all() {
		n, m := p.tunnels.Inner()
		sessions, streams = sessions+n, streams+m
	}
	return sessions, streams
}
