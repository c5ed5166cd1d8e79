// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// What the listeners of one Gateway may be with those of its ListenerSets. Whose sets it lets in must neither make what its process is told larger than that takes, nor its Service one
// that no load balancer makes.
const (
	maxMergedListeners = 512 // that are served: its own 64, and as many as seven full sets have
	maxSetPorts        = 64  // ports of the Service that are for sets alone
	maxNamespacePorts  = 16  // those of them that the sets of one namespace have
	// maxSetListeners is how many listeners the sets of one namespace have that are looked at, in the oldest sets: all are, whenever their Gateway is judged anew. Twice what may be served
	// leaves room for those that conflict.
	maxSetListeners = 2 * maxMergedListeners
	maxListenerLoad = 16 << 20 // bytes on the wire, most of which are certificates: what else Gateways are told leaves room for it
)

const tooManyListeners = gatewayv1.ListenerConditionReason(gatewayv1.ListenerEntryReasonTooManyListeners)

// boundSets parts sets, which are in their order, in those that are looked at and those that are beyond: of a namespace the oldest are, as long as they have no more than maxSetListeners together.
func boundSets(all []*world.ListenerSet) (in, beyond []*world.ListenerSet) {
	listeners := map[string]int{}
	for _, s := range all {
		if listeners[s.Namespace] += len(s.Listeners); listeners[s.Namespace] > maxSetListeners {
			beyond = append(beyond, s)
		} else {
			in = append(in, s)
		}
	}
	return in, beyond
}

func beyondSets(g *world.Gateway, namespace string) string {
	return fmt.Sprintf("the ListenerSets of namespace %s have more than %d listeners for Gateway %s/%s: those of the oldest sets are looked at, which this one is not among", namespace, maxSetListeners, g.Namespace, g.Name)
}

// demand is what the listeners of one namespace's sets take that are served.
type demand struct {
	listeners int
	ports     set[bind] // that sets alone have
	added     int       // those of ports that nobody else's sets had before
	bytes     int
}

// shares are how much of each a namespace may have, as there is not room for all of one of them. They are told nobody in numbers: a listener more of one namespace makes others of all of them,
// and the statuses of all sets would be written again.
type shares struct{ listeners, ports, bytes map[string]int }

// demand is that of the namespace of a set's listener.
func (m *merge) demand(v *listenerVerdict) *demand {
	namespace := v.set.Namespace
	of := m.of[namespace]
	if of == nil {
		of = &demand{ports: set[bind]{}}
		m.of[namespace] = of
	}
	return of
}

// take notes what a listener takes that is served.
func (m *merge) take(v *listenerVerdict) {
	m.served++
	if v.set == nil {
		m.own += v.size()
		return
	}
	of := m.demand(v)
	of.listeners++
	of.bytes += v.size()
	if b := m.bindFor(v.listener); m.ports.has(b) {
		of.ports.add(b)
	}
}

// release takes a set's listener back. Its port stays, as another one has it.
func (m *merge) release(v *listenerVerdict) {
	of := m.demand(v)
	m.served--
	of.listeners--
	of.bytes -= v.size()
}

// count finds whether a set's listener is one too many, or its port.
func (m *merge) count(v *listenerVerdict) {
	of, namespace, b := m.demand(v), v.set.Namespace, m.bindFor(v.listener)
	_, open := m.binds[b]
	switch {
	case m.most != nil && (of.listeners >= m.most.listeners[namespace] || m.served >= maxMergedListeners):
		v.reason = tooManyListeners
		v.message = fmt.Sprintf("Gateway %s/%s has more than the %d listeners that it may have with those of its ListenerSets, and those of namespace %s have their share of them",
			m.gateway.Namespace, m.gateway.Name, maxMergedListeners, namespace)
	case (!open || m.ports.has(b)) && !of.ports.has(b) && len(of.ports) >= maxNamespacePorts,
		m.most != nil && !open && (of.added >= m.most.ports[namespace] || len(m.ports) >= maxSetPorts):
		// Which of the two it is may be another with each port of another namespace.
		v.reason = gatewayv1.ListenerReasonPortUnavailable
		v.message = fmt.Sprintf("port %d: the ListenerSets of namespace %s have as many ports at Gateway %s/%s besides its own as they may: %d, or if those of all have more than %d together, their share of these", v.listener.Port, namespace,
			m.gateway.Namespace, m.gateway.Name, maxNamespacePorts, maxSetPorts)
	}
}

// weighOwn finds whether a listener of the Gateway itself is too large to be told. What sets want is nothing to it.
func (m *merge) weighOwn(v *listenerVerdict) {
	if m.own+v.size() > maxListenerLoad {
		v.reason = tooManyListeners
		v.message = fmt.Sprintf("the Gateway's own listeners are more than %d MiB with their certificates, which are told for each of them, and this one is beyond them", maxListenerLoad>>20)
	}
}

// weigh finds whether a set's listener is too large to be told.
func (m *merge) weigh(v *listenerVerdict) {
	if m.most == nil {
		return
	}
	namespace := v.set.Namespace
	if m.demand(v).bytes+v.size() > m.most.bytes[namespace] {
		v.reason = tooManyListeners
		v.message = fmt.Sprintf("the listeners of Gateway %s/%s and of its ListenerSets are more than %d MiB with their certificates, which are told for each of them, and this one is beyond the share of namespace %s",
			m.gateway.Namespace, m.gateway.Name, maxListenerLoad>>20, namespace)
	}
}

// size is what the listener takes on the wire without its routes.
func (v *listenerVerdict) size() int {
	l := mesh.Listener{Name: v.name(), Port: v.listener.Port, Bind: v.listener.Port, Protocol: protocolOf(v.listener), Hostname: v.listener.Hostname, Certificates: v.certificates, Clients: v.clients}
	return l.Size()
}

// shares are what each namespace may have of what the Gateway's own listeners leave, by what was served without any limit; nil: there is room for that. One that has less than others leaves the rest to them, and none can
// have so much that another one has less than its share: not even one whose sets come first. What there is room for has shares, too: in the places of those that are refused others come, which may take more of it. Nobody has
// less of that than was served, and all may have equal parts of the rest.
func (m *merge) shares() *shares {
	room, ports := maxMergedListeners-m.served, 0
	for _, of := range m.of {
		room += of.listeners
		ports += len(of.ports)
	}
	short := false
	divide := func(of func(*demand) int, most int) map[string]int {
		wanted, rest := make([]int, 0, len(m.of)), most
		for _, d := range m.of {
			wanted = append(wanted, of(d))
			rest -= of(d)
		}
		each := fairShare(wanted, most)
		out := make(map[string]int, len(m.of))
		for namespace, d := range m.of {
			if out[namespace] = min(of(d), each); each == 0 {
				out[namespace] = of(d) + rest/len(m.of)
			}
		}
		short = short || each > 0
		return out
	}
	out := shares{
		listeners: divide(func(d *demand) int { return d.listeners }, room),
		bytes:     divide(func(d *demand) int { return d.bytes }, maxListenerLoad-m.own),
	}
	most := maxSetPorts
	if len(m.ports) <= maxSetPorts {
		most = max(most, ports) // of several namespaces that have one, none is to lose it
	}
	out.ports = divide(func(d *demand) int { return len(d.ports) }, most)
	if !short {
		return nil
	}
	return &out
}
