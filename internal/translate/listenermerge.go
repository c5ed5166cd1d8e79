// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// merge takes in listeners one by one: those of a Gateway, and then those of its ListenerSets. Only who is served counts, or keeps others out, but for those of the Gateway, which have
// their places whatever they are refused for.
type merge struct {
	gateway *world.Gateway
	bindFor func(world.Listener) bind
	binds   map[bind]*tenants
	served  int
	own     int                // bytes of the Gateway's own listeners that are served
	ports   set[bind]          // that sets alone have
	of      map[string]*demand // by namespace
	most    *shares            // nil: nobody knows yet whether there is room for all
}

// bind is what the process listens on.
type bind struct {
	port uint16
	udp  bool
}

// tenants are the listeners that are served from one, or have their places there: all have the same port.
type tenants struct {
	port     uint16
	examples []world.Listener            // the first one, and those of the Gateway that cannot share a port with it
	first    *world.ListenerSet          // whose is the first one; nil: the Gateway's
	names    map[string]*listenerVerdict // whose it is, by hostname
}

// newMerge takes in a Gateway's own listeners, or, if none is valid, the last tunnels that are served instead.
func (x *index) newMerge(g *world.Gateway, own []listenerVerdict, last []mesh.Listener, most *shares) *merge {
	m := &merge{gateway: g, bindFor: func(l world.Listener) bind { return x.bindFor(g, l) }, binds: map[bind]*tenants{}, ports: set[bind]{}, of: map[string]*demand{}, most: most}
	for i := range own {
		v := &own[i]
		if v.reason == "" {
			m.weighOwn(v)
		}
		if v.reason == "" {
			m.admit(v)
		}
	}
	if m.served == 0 {
		for _, l := range last {
			m.admit(&listenerVerdict{listener: world.Listener{Port: l.Port, Protocol: protocolHBONE}})
		}
	}
	for i := range own {
		if own[i].reason != "" {
			m.hold(&own[i])
		}
	}
	return m
}

// hold notes that nobody else may have the place of a listener of the Gateway that is refused. One that is served goes before it, where it is the same port of the process.
func (m *merge) hold(v *listenerVerdict) {
	l := v.listener
	if protocolOf(l) == 0 {
		return // nobody knows what it could share a port with
	}
	t := m.binds[m.bindFor(l)]
	if t == nil {
		m.place(v)
		return
	}
	if t.port != l.Port {
		return
	}
	if !slices.ContainsFunc(t.examples, func(o world.Listener) bool { return together(l, o) }) {
		t.examples = append(t.examples, l)
	}
	if t.names[l.Hostname] == nil {
		t.names[l.Hostname] = v
	}
}

// bindFor is where a listener of a Gateway is served, or would be.
func (x *index) bindFor(g *world.Gateway, l world.Listener) bind {
	return bind{x.bindAt(g, l), l.Protocol == protocolUDP}
}

// admit notes that a listener is served.
func (m *merge) admit(v *listenerVerdict) {
	m.place(v)
	m.take(v)
}

// place notes that nobody else may have a listener's place.
func (m *merge) place(v *listenerVerdict) {
	l := v.listener
	t := m.binds[m.bindFor(l)]
	if t == nil {
		t = &tenants{port: l.Port, examples: []world.Listener{l}, first: v.set, names: map[string]*listenerVerdict{}}
		if m.binds[m.bindFor(l)] = t; v.set != nil {
			m.ports.add(m.bindFor(l))
			m.demand(v).added++
		}
	}
	t.names[l.Hostname] = v
}

// meet finds what keeps a set's listener from standing beside those that are served. Whose they are is said, and nothing else of them: the one who reads it may not be
// the one who may read them. What is in its place may be the listener of a set that cannot prove its hostname: then it is not kept out yet, but has to contend with that one.
func (m *merge) meet(v *listenerVerdict) (unproved *listenerVerdict) {
	l := v.listener
	t := m.binds[m.bindFor(l)]
	if t == nil {
		return nil
	}
	whose := func(other *world.ListenerSet) string {
		switch other {
		case nil:
			return fmt.Sprintf("Gateway %s/%s", m.gateway.Namespace, m.gateway.Name)
		case v.set:
			return "this ListenerSet, which comes before it,"
		default:
			return "another ListenerSet, which comes before this one,"
		}
	}
	if l.Port != t.port {
		v.reason = gatewayv1.ListenerReasonPortUnavailable
		v.message = fmt.Sprintf("ports %d and %d are both served from port %d, and a listener of %s has the latter", l.Port, t.port, m.bindFor(l).port, whose(t.first))
		return nil
	}
	if slices.ContainsFunc(t.examples, func(o world.Listener) bool { return !together(l, o) }) {
		v.conflict = gatewayv1.ListenerReasonProtocolConflict
		v.message = fmt.Sprintf("port %d: a listener of %s has a protocol that cannot share a port with %s", l.Port, whose(t.first), l.Protocol)
	} else if other, taken := t.names[l.Hostname]; taken {
		if other.set != nil && other.unproved {
			return other
		}
		v.sameHost(whose(other.set))
	}
	v.reason = v.conflict
	return nil
}

// contend settles which one has a hostname: a listener that is proved, or that needs no proof, or the one of a set that came before it and is not proved. Those of the Gateway
// itself never contend: whom it lets in must not have its hostnames while it changes its certificates.
func (m *merge) contend(v, unproved *listenerVerdict) {
	winner, loser := unproved, v
	if !v.unproved {
		winner, loser = v, unproved
		m.release(unproved)
	}
	switch {
	case loser.unread:
		loser.reason, loser.message = gatewayv1.ListenerReasonPending, loser.refs.message
		return
	case winner.set == loser.set:
		loser.sameHost("this ListenerSet")
	default:
		loser.sameHost("another ListenerSet")
	}
	if loser == unproved {
		loser.message += ", and a certificate, which this one lacks"
	}
	loser.reason = loser.conflict
}

// sameHost notes that somebody else has the listener's hostname.
func (v *listenerVerdict) sameHost(whose string) {
	v.conflict = gatewayv1.ListenerReasonHostnameConflict
	v.message = fmt.Sprintf("port %d: a listener of %s has the same protocol and hostname", v.listener.Port, whose)
	if p := v.listener.Protocol; p == protocolHTTPS || p == protocolTLS { // either may share a port with the other
		v.message = fmt.Sprintf("port %d: a listener of %s has the same hostname", v.listener.Port, whose)
	}
}
