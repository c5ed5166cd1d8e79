// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxProbes bounds how often in a row somebody is probed who stays away: at the longest pause, for five minutes. After that it is tried again by a connection, if there
// is still one that wants it.
const maxProbes = 14

// gatewayOf names the gateway that a plan dials, as health does: its pod if it has several, else itself. It is the zero value if there is none.
func gatewayOf(plan Plan) ejected {
	switch {
	case plan.Via != DoubleHBONE:
		return ejected{}
	case plan.GatewayPicked != "":
		return ejected{uid: plan.GatewayPicked}
	default:
		return ejected{gateway: plan.Gateway}
	}
}

// gatewaySettings are those of a tunnel to a gateway. One that falls silent is passed over before a connection has to find out. That one of several tunnels to it is silent says little: of
// these the first one tells.
func (t *Tunnels) gatewaySettings(key tunnelKey) hbone.Settings {
	s, via := t.o.Settings, key.via
	if via == (ejected{}) || key.lane > 0 {
		return s
	}
	count := s.Observe
	s.Observe = func(e hbone.Event) {
		if count != nil {
			count(e)
		}
		if e == hbone.EventSilent {
			t.o.Health.eject(via)
		}
	}
	return s
}

// Watch finds out when a gateway that could not be connected is back, or an endpoint's own proxy, so that no connection has to wait for that. It returns at once, and looks until the
// tunnels drain.
func (t *Tunnels) Watch(source mesh.Identity, plan Plan) {
	p := &probe{health: t.o.Health, away: gatewayOf(plan), dial: func(ctx context.Context) error { return t.knock(ctx, source, plan) }}
	if plan.Via == HBONE {
		p.away, p.admit = ejected{uid: plan.Picked}, true
		p.dial = func(ctx context.Context) error { return t.greet(ctx, source, plan) }
	}
	if p.health.probe(p) {
		t.watches.Go(func() { p.run(t.watching) })
	}
}

// greet makes a tunnel to the plan's endpoint, for nothing.
func (t *Tunnels) greet(ctx context.Context, source mesh.Identity, plan Plan) error {
	plans, err := t.ways(ctx, plan)
	if err != nil {
		return err
	}
	plan = plans[0]
	conn, err := t.dialTunnel(ctx, tunnelKey{source: source, next: joined(plan.Next), dial: plan.Dial, several: plan.Several})
	if err != nil {
		return err
	}
	return conn.Close()
}

// knock asks the plan's gateway for what a connection would ask for, and gives nil if it was answered, whatever that was, or the gateway lives and needs longer for that.
func (t *Tunnels) knock(ctx context.Context, source mesh.Identity, plan Plan) error {
	plans, err := t.ways(ctx, plan)
	if err != nil {
		return err
	}
	stream, _, refusal := t.open(ctx, source, plans[0], nil, 0)
	if refusal == nil {
		return stream.Close()
	}
	if lives(refusal) {
		return nil
	}
	return refusal
}

// joined are SPIFFE ids as they stand in a tunnelKey.
func joined(ids []mesh.Identity) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	return strings.Join(names, " ")
}

// probe asks somebody who is passed over whether he is back.
type probe struct {
	health *Health
	away   ejected
	dial   func(context.Context) error
	// admit says that an answer only lets connections try: what they want is more than was asked for, and if they fail, they fail again.
	admit bool
}

// run asks each time that the ejection is over, until it has answered, somebody else has found it well, it was asked in vain for long, or ctx ends.
func (g *probe) run(ctx context.Context) {
	defer g.health.unprobe(g)
	for asked := 0; asked < maxProbes; {
		pause, still := g.health.left(g)
		switch {
		case !still:
			return
		case pause > 0:
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			continue // a connection that has nothing else may have tried it meanwhile
		}
		asked++
		asking, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := g.dial(asking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if g.admit {
				g.health.admit(g.away)
			} else {
				g.health.worked(Plan{Gateway: g.away.gateway, GatewayPicked: g.away.uid}, netip.AddrPort{})
			}
			return
		}
		g.health.eject(g.away)
	}
}

// admit ends the time for which something is passed over, and forgets nothing.
func (h *Health) admit(key ejected) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, known := h.ejected[key]; known {
		e.until, e.prober, e.trial = h.now(), nil, false
		h.set(key, e)
		h.tell(key, h, e.until)
	}
}

// probe says whether g is to find out when something is back: if it is passed over, and nobody else does. Whoever is told so calls unprobe in the end.
func (h *Health) probe(g *probe) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, known := h.ejected[g.away]
	if !known || e.probed() {
		return false
	}
	e.prober = g
	h.set(g.away, e)
	return true
}

// unprobe ends what probe began.
func (h *Health) unprobe(g *probe) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e, known := h.ejected[g.away]; known && e.prober == g {
		e.prober = nil
		h.set(g.away, e)
	}
}

// left says how long what g probes is passed over from now on, and whether it is still for g to find out. It is not if it was well and has failed again, and somebody else does by now.
func (h *Health) left(g *probe) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, known := h.ejected[g.away]
	if known && !e.probed() {
		e.prober = g
		h.set(g.away, e)
	}
	return e.until.Sub(h.now()), known && e.prober == g
}
