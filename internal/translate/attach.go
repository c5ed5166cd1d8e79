// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Conditions of a route at one of its parents.
const (
	routeAccepted    = string(gatewayv1.RouteConditionAccepted)
	routeResolved    = string(gatewayv1.RouteConditionResolvedRefs)
	partiallyInvalid = string(gatewayv1.RouteConditionPartiallyInvalid)
)

// routeKind is how allowedRoutes.kinds names a kind of routes.
func routeKind(k world.Kind) string { return gatewayv1.GroupName + "/" + string(k) }

// names says whether kinds has a kind of routes. Each route is looked at for each change of any, so that nothing is allocated here.
func names(kinds []string, k world.Kind) bool {
	return slices.ContainsFunc(kinds, func(s string) bool {
		group, kind, _ := strings.Cut(s, "/")
		return kind == string(k) && group == gatewayv1.GroupName
	})
}

// ListenerState is the part of a listener's status that is no condition.
type ListenerState struct {
	Name string
	// Kinds are those of routes that may attach, as "group/Kind"; Attached counts the routes that do.
	Kinds    []string
	Attached int
}

// gate is one of our Gateways while it is looked at.
type gate struct {
	*judged
	gateway    *world.Gateway
	routes     [][]*mesh.HTTPRoute   // by listener
	refused    []int                 // by listener: how many of these are not accepted
	claims     []tlsClaims           // by listener
	streams    [][]*mesh.StreamRoute // by listener, of which the first is in force
	fields     [][]contender         // HTTPRoutes and GRPCRoutes by listener; nil where no GRPCRoute is
	rivals     rivals
	backendTLS []mesh.BackendTLS // once policies are settled

	load int // about what the routes take, and on the wire never less
}

// attachAll finds which routes attach to which listeners, and what to say of it on the routes.
func (x *index) attachAll(gates map[world.Key]*gate, findings map[world.ObjectRef][]Finding) {
	all := x.applicants(gates)
	x.boundLooks(all)
	x.unburden(gates, all)
	x.settleRivals(all)
	carriedAt := map[enforcedFor]carried{}
	var parts [][]Finding
	for _, a := range all {
		parts = parts[:0]
		for i := range a.fits {
			parts = append(parts, a.attach(&a.fits[i]))
		}
		if out := a.joined(append(parts, x.atServices(a, carriedAt))); len(out) > 0 {
			findings[a.ref] = out
		}
	}
	for _, g := range gates {
		for i := range g.routes {
			g.streams[i] = slices.Compact(g.streams[i]) // a route may come by two of its parents
			g.verdicts[i].attached = len(g.routes[i]) - g.refused[i] + g.claims[i].routes + len(g.streams[i])
		}
	}
}

// joined is what is in all parts, of which none is changed: findings about routes are remembered, and so are these.
func (a *applicant) joined(parts [][]Finding) []Finding {
	parts = slices.DeleteFunc(parts, func(part []Finding) bool { return len(part) == 0 })
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	if !slices.EqualFunc(parts, a.told, func(now, last []Finding) bool { return len(now) == len(last) && &now[0] == &last[0] }) {
		a.told, a.all = slices.Clone(parts), slices.Concat(parts...)
	}
	return a.all
}

// gateOf is the Gateway of ours that is a route's parent, or whose ListenerSet is; nil: the parent is something else.
func (x *index) gateOf(ref world.ObjectRef, p world.RouteParent, gates map[world.Key]*gate) *gate {
	if p.Group != gatewayv1.GroupName {
		return nil
	}
	k := ref.In(p.Namespace, p.Name)
	switch world.Kind(p.Kind) {
	case world.KindGateway:
		return gates[k]
	case world.KindListenerSet:
		if s := x.state.ListenerSets[k]; s != nil {
			return gates[s.Gateway]
		}
	}
	return nil
}

// attach judges a route at one of its parents, and attaches it to the listeners that it fits.
func (a *applicant) attach(f *fit) []Finding {
	s := &a.stays[f.stay]
	if s.unlooked != "" {
		return a.say(f, ReasonTooMany, s.unlooked)
	}
	at, lost := s.gate.withoutRivals(a, f.at)
	reason, message := f.reason, f.message
	switch {
	case reason == "" && len(at) == 0:
		reason, message = routeConflicted, lost
	case reason == "" && a.void():
		reason, message = a.compiled.dropped.reason, a.compiled.dropped.message
	case reason == "" && s.tooMany != "":
		reason, message = ReasonTooMany, s.tooMany
	case reason == "":
		message = "the route is served"
		if lost != "" {
			message += "; not at every listener: " + lost
		}
		if a.take(s.gate, at); a.compiled != nil && a.compiled.refused() {
			reason, message = a.compiled.dropped.reason, a.compiled.dropped.message
		}
	}
	return a.say(f, reason, message)
}

// take attaches a route to listeners of a gate.
func (a *applicant) take(g *gate, at []int) {
	switch a.ref.Kind {
	case world.KindTLSRoute:
		for _, i := range at {
			g.claims[i].claim(a, g.verdicts[i].listener.Hostname)
		}
	case world.KindTCPRoute, world.KindUDPRoute:
		for _, i := range at {
			g.streams[i] = append(g.streams[i], a.stream)
		}
	default:
		for _, i := range at {
			if there := g.routes[i]; len(there) > 0 && there[len(there)-1] == a.compiled.route {
				continue // by another of its parents
			}
			if g.routes[i] = append(g.routes[i], a.compiled.route); a.compiled.refused() {
				g.refused[i]++
			}
		}
	}
}

// said is what was found about a route at one of its parents, and for what outcome.
type said struct {
	reason, message string
	refs, dropped   trouble
	findings        []Finding
}

// say gives the findings about a route at a parent, where it is accepted if there is no reason. They are those of the last time if nothing is another.
func (a *applicant) say(f *fit, reason, message string) []Finding {
	s := &a.said[f.parent]
	refs, dropped := a.refs, trouble{}
	if a.compiled != nil {
		refs, dropped = a.compiled.refs, a.compiled.dropped
	}
	if s.findings != nil && s.reason == reason && s.message == message && s.refs == refs && s.dropped == dropped {
		return s.findings
	}
	finding := findingAt(a.parents[f.parent], a.generation)
	*s = said{reason, message, refs, dropped, []Finding{finding(routeAccepted, reason == "", cmp.Or(reason, string(gatewayv1.RouteReasonAccepted)), message)}}
	if refs.reason == "" {
		s.findings = append(s.findings, finding(routeResolved, true, string(gatewayv1.RouteReasonResolvedRefs), "the route refers to nothing that is missing"))
	} else {
		s.findings = append(s.findings, finding(routeResolved, false, refs.reason, refs.message))
	}
	if reason == "" && dropped.reason != "" {
		s.findings = append(s.findings, finding(partiallyInvalid, true, dropped.reason, dropped.message))
	}
	return s.findings
}

// findingAt makes findings about a route at one of its parents.
func findingAt(p world.RouteParent, generation int64) func(kind string, holds bool, reason, message string) Finding {
	return func(kind string, holds bool, reason, message string) Finding {
		f := Finding{Parent: p, Type: kind, Status: isFalse, Reason: reason, Message: shorten(message), Generation: generation}
		if holds {
			f.Status = isTrue
		}
		return f
	}
}

// fitting are the listeners that a route attaches to by one of its parents, or why there are none.
func (x *index) fitting(r world.ObjectRef, hostnames []string, p world.RouteParent, g *gate) (at []int, reason, message string) {
	named, allowed := 0, 0
	of := g.homes[world.ObjectRef{Kind: world.Kind(p.Kind), Key: r.In(p.Namespace, p.Name)}]
	for i := of.from; i < of.to; i++ {
		v := &g.verdicts[i]
		l := v.listener
		if p.Section != "" && l.Name != p.Section || p.Port != 0 && l.Port != p.Port {
			continue
		}
		named++
		if !names(v.kinds, r.Kind) || !x.admits(v.home(g.gateway), l, r.Namespace) {
			continue
		}
		if allowed++; anyMeets(l.Hostname, hostnames) {
			at = append(at, i)
		}
	}
	if len(at) > 0 {
		return at, "", ""
	}
	name := p.Kind + " " + p.Namespace + "/" + p.Name
	if of.from == of.to {
		return nil, string(gatewayv1.RouteReasonNoMatchingParent), fmt.Sprintf("%s has no listeners at its Gateway; see its conditions", name)
	}
	if named == 0 {
		wanted := fmt.Sprintf("named %q", p.Section)
		if p.Port != 0 {
			wanted = strings.TrimPrefix(wanted+fmt.Sprintf(" with port %d", p.Port), `named "" `)
		}
		return nil, string(gatewayv1.RouteReasonNoMatchingParent), fmt.Sprintf("%s has no listener %s", name, wanted)
	}
	if allowed == 0 {
		return nil, string(gatewayv1.RouteReasonNotAllowedByListeners),
			fmt.Sprintf("no listener of %s takes %ss of namespace %s: see allowedRoutes and protocol of its listeners", name, r.Kind, r.Namespace)
	}
	return nil, string(gatewayv1.RouteReasonNoMatchingListenerHostname),
		fmt.Sprintf("hostnames: no listener of %s that takes the route has a hostname in common with it", name)
}

// anyMeets says whether a listener's hostname and a route's have one in common; none on either side is all.
func anyMeets(listener string, route []string) bool {
	if listener == "" || len(route) == 0 {
		return true
	}
	return slices.ContainsFunc(route, func(h string) bool { return mesh.HostnamesMeet(listener, h) })
}

// meshListeners are what a Gateway's process is told of its valid listeners: the same as the last time if the same is attached.
func (x *index) meshListeners(g *gate) []mesh.Listener {
	out, own := g.listeners, false // own: nobody else has it
	n := 0
	for i := range g.verdicts {
		v := &g.verdicts[i]
		if v.reason != "" {
			continue
		}
		var stream *mesh.StreamRoute
		if len(g.streams[i]) > 0 {
			stream = g.streams[i][0]
		}
		routes, tls := g.routes[i], g.claims[i].settled(v.listener.Hostname)
		switch {
		case n == len(out):
			out = append(out, mesh.Listener{
				Name: v.name(), Port: v.listener.Port, Bind: x.bindAt(g.gateway, v.listener), Protocol: servedAs(g.gateway, v.listener),
				Hostname: v.listener.Hostname, Certificates: v.certificates, Clients: v.clients, Routes: routes, TLSRoutes: tls, Stream: stream,
			})
		case !slices.Equal(out[n].Routes, routes) || out[n].Stream != stream && !same(out[n].Stream, stream) || !slices.EqualFunc(out[n].TLSRoutes, tls, same):
			if !own {
				out, own = slices.Clone(out), true
			}
			out[n].Routes, out[n].TLSRoutes, out[n].Stream = routes, tls, stream
		}
		n++
	}
	g.listeners = out
	return out
}

// newGate makes room for what attaches.
func newGate(j *judged) *gate {
	n := len(j.verdicts)
	return &gate{
		judged: j, gateway: j.by.gateway, routes: make([][]*mesh.HTTPRoute, n), refused: make([]int, n),
		claims: make([]tlsClaims, n), streams: make([][]*mesh.StreamRoute, n),
	}
}

// valid counts the listeners that are served, and those of them that are the Gateway's own, which come first.
func (g *gate) valid() (all, own int) {
	for i := range g.verdicts {
		if v := &g.verdicts[i]; v.reason == "" {
			if all++; v.set == nil {
				own++
			}
		}
	}
	return all, own
}

// maxNamed is how many listeners a message names.
const maxNamed = 4

// invalid names the Gateway's own listeners that are not valid, or the first of them.
func (g *gate) invalid() string {
	var names []string
	for i := range g.gateway.Listeners { // which come first
		if v := &g.verdicts[i]; v.reason != "" {
			names = append(names, v.listener.Name)
		}
	}
	if more := len(names) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// span is a part of a gate's listeners.
type span struct{ from, to int }

// homesOf finds those of the Gateway and of each of its sets, which lie together.
func homesOf(g *world.Gateway, verdicts []listenerVerdict) map[world.ObjectRef]span {
	out := map[world.ObjectRef]span{}
	for i := range verdicts {
		ref := g.Ref()
		if s := verdicts[i].set; s != nil {
			ref = s.Ref()
		}
		of, any := out[ref]
		if !any {
			of.from = i
		}
		of.to = i + 1
		out[ref] = of
	}
	return out
}

// portsOf are the ports of listeners that the gate has, perhaps with others before them.
func (g *gate) portsOf(listeners []mesh.Listener) []mesh.Listener {
	if len(listeners) != len(g.listeners) {
		return portsOf(listeners)
	}
	if g.ports == nil {
		g.ports = portsOf(listeners)
	}
	return g.ports
}

// portsOf are the ports of listeners, each once, as a Service has them.
func portsOf(listeners []mesh.Listener) []mesh.Listener {
	var out []mesh.Listener
	for _, l := range listeners {
		if !slices.ContainsFunc(out, func(o mesh.Listener) bool { return o.Port == l.Port && isUDP(o) == isUDP(l) }) {
			out = append(out, mesh.Listener{Name: l.Name, Port: l.Port, Bind: l.Bind, Protocol: l.Protocol})
		}
	}
	return out
}

func isUDP(l mesh.Listener) bool { return l.Protocol == mesh.ListenerUDP }

// states are the parts of the status of a Gateway's own listeners that are no conditions.
func (g *gate) states() []ListenerState {
	g.ownStates = statesOf(g.verdicts[:len(g.gateway.Listeners)], g.ownStates) // which come first
	return g.ownStates
}

// statesOf are those of some listeners: what they were the last time, if that is the same.
func statesOf(verdicts []listenerVerdict, last []ListenerState) []ListenerState {
	if len(last) == len(verdicts) {
		i := 0
		for i < len(last) && last[i].Attached == verdicts[i].attached {
			i++
		}
		if i == len(last) {
			return last
		}
	}
	out := make([]ListenerState, 0, len(verdicts))
	for i := range verdicts {
		out = append(out, verdicts[i].state())
	}
	return out
}

func (v *listenerVerdict) state() ListenerState {
	return ListenerState{v.listener.Name, v.kinds, v.attached}
}

// sortedRefs are the members of a set; nil: it has none.
func sortedRefs(of set[world.ObjectRef]) []world.ObjectRef {
	if len(of) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Keys(of), world.ObjectRef.Compare)
}
