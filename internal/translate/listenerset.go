// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Reasons on a ListenerSet that the API describes and has no constant for.
const setParentNotProgrammed = "ParentNotProgrammed"

// foldListenerSet notes which Gateway a set is for.
func (x *index) foldListenerSet(k world.Key, was, now *world.ListenerSet, t *touched) {
	if k.Cluster != x.config.LocalCluster {
		return
	}
	t.routes = true
	x.forgetFits() // whose set it is may be another
	if was != nil {
		delete(x.lettings, was.Gateway)
		x.setsFor.remove(was.Gateway, k)
		x.setsIn.remove(k.Namespace, k)
	}
	if now != nil {
		delete(x.lettings, now.Gateway)
		x.setsFor.add(now.Gateway, k)
		x.setsIn.add(k.Namespace, k)
	}
}

// judgeSets looks at the listeners of a Gateway's sets that it lets in, after its own ones: in a conflict the first counts, or the first that can prove what it is. If more would be served than
// may be, it does so again with a share for each namespace. What is wanted is as in judgeListeners.
func (x *index) judgeSets(g *world.Gateway, in []*world.ListenerSet, own []listenerVerdict, wanted set[world.ObjectRef]) []listenerVerdict {
	var sets []listenerVerdict
	for _, s := range in {
		for _, l := range s.Listeners {
			sets = append(sets, listenerVerdict{listener: l, set: s})
		}
	}
	judge := func(m *merge) {
		for i := range sets { // which stay where they are: others are told of them
			x.judgeSet(g, m, &sets[i], wanted)
		}
	}
	last := x.lastTunnels(g)
	m := x.newMerge(g, own, last, nil)
	judge(m)
	if most := m.shares(); most != nil {
		for i := range sets {
			sets[i] = listenerVerdict{listener: sets[i].listener, set: sets[i].set}
		}
		judge(x.newMerge(g, own, last, most))
	}
	for i := range sets {
		sets[i].judgeKinds()
	}
	return append(own, sets...)
}

// judgeSet looks at one of them. Certificates are read for those alone that nobody who is served keeps out.
func (x *index) judgeSet(g *world.Gateway, m *merge, v *listenerVerdict, wanted set[world.ObjectRef]) {
	unproved := m.meet(v)
	if v.reason == "" {
		v.reason, v.message = x.judgeSetListener(g, v.listener)
	}
	if v.reason == "" {
		m.count(v)
	}
	if v.reason == "" {
		v.prove(x, v.set.Ref(), g, wanted)
	}
	if v.reason == "" {
		m.weigh(v)
	}
	if v.reason == "" && unproved != nil {
		m.contend(v, unproved)
	}
	if v.reason == "" {
		m.admit(v)
	}
}

// judgeSetListener is judgeListener for one of a set. Tunnels end at listeners of the Gateway itself, where other clusters read of them.
func (x *index) judgeSetListener(g *world.Gateway, l world.Listener) (gatewayv1.ListenerConditionReason, string) {
	if l.Protocol == protocolHBONE {
		return gatewayv1.ListenerReasonUnsupportedProtocol, "protocol HBONE is for listeners of a Gateway itself: other clusters read of no ListenerSet"
	}
	if reason, message := x.judgeListener(g, l, 0); reason != "" {
		return reason, message
	}
	if s := x.state.Services[x.front(g)]; unmanaged(g) && s != nil { // also one that goes on although another one is named: it gets no further ports
		ports := s.Ports
		if l.Protocol == protocolUDP {
			ports = s.UDPPorts
		}
		if !slices.ContainsFunc(ports, func(p world.ServicePort) bool { return p.Port == l.Port }) {
			return gatewayv1.ListenerReasonPortUnavailable, fmt.Sprintf("port %d: the Service that leads to Gateway %s/%s does not have it", l.Port, g.Namespace, g.Name)
		}
	}
	return "", ""
}

// name is the listener's, unlike that of any other one of its Gateway: listeners of sets may have the names of others.
func (v *listenerVerdict) name() string {
	if v.set == nil {
		return v.listener.Name
	}
	return v.set.Namespace + "/" + v.set.Name + "/" + v.listener.Name
}

// home is the object that a listener is of: its namespace is the one meant by Same, and the one from which it refers.
func (v *listenerVerdict) home(g *world.Gateway) world.Key {
	if v.set == nil {
		return g.Key
	}
	return v.set.Key
}

// setSaid is what was said last of a set that is let in, and for what.
type setSaid struct {
	isAccepted, isProgrammed bool // its Gateway
	findings                 []Finding
	states                   []ListenerState
	accepted                 bool
}

// listenerSets says what became of a Gateway's sets, once it is known what became of the Gateway.
func (x *index) listenerSets(at *gate, isAccepted, isProgrammed bool, out gateways) {
	g := at.gateway
	if len(x.setsFor[g.Key]) == 0 {
		return
	}
	sets := x.setsOf(g)
	sets.tell(g, out.findings)
	if at.setsSaid == nil {
		at.setsSaid = make([]setSaid, len(sets.in))
	}
	attached := 0
	for i, s := range sets.in {
		said := &at.setsSaid[i]
		if said.findings == nil || said.isAccepted != isAccepted || said.isProgrammed != isProgrammed {
			*said = at.listenerSet(s, isAccepted, isProgrammed)
		}
		out.findings[s.Ref()] = said.findings
		if of := at.homes[s.Ref()]; of.to > of.from {
			said.states = statesOf(at.verdicts[of.from:of.to], said.states)
			out.listeners[s.Ref()] = said.states
		}
		if said.accepted {
			attached++
		}
	}
	out.sets[g.Key] = attached
}

// listenerSet does so for one that is let in.
func (at *gate) listenerSet(s *world.ListenerSet, isAccepted, isProgrammed bool) setSaid {
	ref, parent := s.Ref(), fmt.Sprintf("Gateway %s/%s", at.gateway.Namespace, at.gateway.Name)
	var entries []Finding
	add := func(listener, kind string, holds bool, reason, message string) {
		f := setFinding(s, kind, isFalse, reason, message)
		if f.Listener = listener; holds {
			f.Status = isTrue
		}
		entries = append(entries, f)
	}
	valid := 0
	of := at.homes[ref]
	for i := of.from; i < of.to; i++ {
		v := &at.verdicts[i]
		v.report(add, isAccepted)
		if v.reason == "" && !v.unproved {
			valid++
		}
	}
	invalid := string(gatewayv1.ListenerSetReasonListenersNotValid)
	say := func(acceptedReason, programmedReason, message string) {
		entries = append(entries, setFinding(s, accepted, isFalse, acceptedReason, message), setFinding(s, programmed, isFalse, programmedReason, message))
	}
	switch {
	case !isAccepted && valid > 0:
		reason := string(gatewayv1.ListenerSetReasonParentNotAccepted)
		say(reason, reason, parent+" is not accepted")
	case valid == 0:
		say(invalid, invalid, "no listener is valid; see the listeners' conditions")
	default:
		reason, message := string(gatewayv1.ListenerSetReasonAccepted), "the listeners are served by "+parent
		if valid < len(s.Listeners) {
			reason, message = invalid, fmt.Sprintf("%d of %d listeners are valid and served; see the listeners' conditions", valid, len(s.Listeners))
		}
		entries = append(entries, setFinding(s, accepted, isTrue, reason, message))
		if isProgrammed {
			entries = append(entries, setFinding(s, programmed, isTrue, string(gatewayv1.ListenerSetReasonProgrammed), parent+" is configured with the listeners"))
		} else {
			entries = append(entries, setFinding(s, programmed, isFalse, setParentNotProgrammed, parent+" is not programmed; see its conditions"))
		}
	}
	return setSaid{isAccepted: isAccepted, isProgrammed: isProgrammed, findings: entries, accepted: isAccepted && valid > 0}
}

func setFinding(s *world.ListenerSet, kind, status, reason, message string) Finding {
	return Finding{Type: kind, Status: status, Reason: reason, Message: shorten(message), Generation: s.Generation}
}

// prove finds the certificates of a listener that needs any, for the object that refers to them.
func (v *listenerVerdict) prove(x *index, owner world.ObjectRef, g *world.Gateway, wanted set[world.ObjectRef]) {
	if !v.needsProof() {
		return
	}
	v.certificates, v.refs, v.unread = x.certificates(referrer{owner, "listener " + v.name()}, "tls.certificateRefs", v.listener.Certificates, wanted, string(gatewayv1.ListenerReasonInvalidCertificateRef))
	v.unproved = len(v.certificates) == 0
	v.unread = v.unread && v.unproved
	if v.listener.Protocol == protocolHTTPS {
		x.judgeClients(g, v, wanted)
	}
}

func (v *listenerVerdict) needsProof() bool {
	return v.listener.Protocol == protocolHTTPS || protocolOf(v.listener) == mesh.ListenerTLSTerminate
}

// sameTransport says whether two listeners are both for datagrams, or both for connections.
func sameTransport(a, b world.Listener) bool {
	return (a.Protocol == protocolUDP) == (b.Protocol == protocolUDP)
}
