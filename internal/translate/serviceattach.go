// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// kindRanks say which kind of routes counts at a port of a Service: the one that sees the most of what is carried. Only kinds that waypoints route are served. UDPRoutes
// are at other ports than all others.
var kindRanks = map[world.Kind]int{world.KindGRPCRoute: 4, world.KindHTTPRoute: 3, world.KindTLSRoute: 2, world.KindTCPRoute: 1, world.KindUDPRoute: 1}

var servedAtServices = set[world.Kind]{world.KindGRPCRoute: {}, world.KindHTTPRoute: {}}

// foldServiceParents notes at which Services a route wants to be.
func (x *index) foldServiceParents(ref world.ObjectRef, was, now []world.RouteParent, t *touched) {
	for n := range servicesAmong(was) {
		x.routesAt.remove(n, ref)
		delete(x.attached, n)
		t.names.add(n)
	}
	for n := range servicesAmong(now) {
		x.routesAt.add(n, ref)
		delete(x.attached, n)
		t.names.add(n)
	}
}

func parentsOf(r *world.HTTPRoute) []world.RouteParent {
	if r == nil {
		return nil
	}
	return r.Parents
}

func streamParents(r *world.StreamRoute) []world.RouteParent {
	if r == nil {
		return nil
	}
	return r.Parents
}

func tlsParents(r *world.TLSRoute) []world.RouteParent {
	if r == nil {
		return nil
	}
	return r.Parents
}

func isService(p world.RouteParent) bool { return p.Group == "" && p.Kind == string(world.KindService) }

func servicesAmong(parents []world.RouteParent) set[serviceName] {
	out := set[serviceName]{}
	for _, p := range parents {
		if isService(p) {
			out.add(serviceName{p.Namespace, p.Name})
		}
	}
	return out
}

// attachment is a route at one of its parents that is a Service.
type attachment struct {
	ref        world.ObjectRef
	parent     world.RouteParent
	generation int64
	created    int64
	ports      []uint16 // of the Service, at which it is
	trouble    trouble  // why it is at none
	lost       []uint16 // ports at which routes of another kind come before it
}

// consumer is the namespace whose callers the route is for; empty: everybody, as it is in the Service's own.
func (a *attachment) consumer() string {
	if a.ref.Namespace == a.parent.Namespace {
		return ""
	}
	return a.ref.Namespace
}

// maxRoutesAt is how many routes of one namespace are in force at one Service: the oldest. Any namespace may have routes at any Service, and must not be able to make what
// the waypoint there is told as large as it likes.
const maxRoutesAt = 256

// attachments are the routes that want to be at one Service of our own cluster.
type attachments struct {
	all     []*attachment // in no particular order
	byRoute map[world.ObjectRef][]*attachment
	owned   bool // one of its owner's is in force, so that a waypoint has something to do
	// consumers are the other namespaces of which one is, sorted.
	consumers []string
}

// attachments are those at a Service, from memory unless it or one of them changed: they depend on nothing else.
func (x *index) attachments(n serviceName) *attachments {
	if len(x.routesAt[n]) == 0 {
		return &attachments{}
	}
	out := x.attached[n]
	if out == nil {
		out = &attachments{all: x.attachAt(n), byRoute: map[world.ObjectRef][]*attachment{}}
		out.consumers = limitConsumers(out.all)
		for _, a := range out.all {
			out.byRoute[a.ref] = append(out.byRoute[a.ref], a)
			out.owned = out.owned || a.trouble.reason == "" && a.consumer() == ""
		}
		x.attached[n] = out
	}
	return out
}

// attachAt works out attachments.
func (x *index) attachAt(n serviceName) []*attachment {
	var out []*attachment
	for ref := range x.routesAt[n] {
		parents, generation, created := x.parentsOf(ref)
		for i, p := range parents {
			if isService(p) && p.Namespace == n.Namespace && p.Name == n.Name && !slices.Contains(parents[:i], p) {
				a := &attachment{ref: ref, parent: p, generation: generation, created: created}
				x.placeAt(a, x.state.Services[n.in(x.config.LocalCluster)])
				out = append(out, a)
			}
		}
	}
	type place struct {
		consumer  string
		datagrams bool
		port      uint16
	}
	placeOf := func(a *attachment, port uint16) place {
		return place{a.consumer(), a.ref.Kind == world.KindUDPRoute, port}
	}
	best := map[place]int{}
	for _, a := range out {
		for _, port := range a.ports {
			at := placeOf(a, port)
			best[at] = max(best[at], kindRanks[a.ref.Kind])
		}
	}
	for _, a := range out {
		wins := func(port uint16) bool { return best[placeOf(a, port)] == kindRanks[a.ref.Kind] }
		for _, port := range a.ports {
			if !wins(port) {
				a.lost = append(a.lost, port)
			}
		}
		if a.ports = slices.DeleteFunc(a.ports, func(port uint16) bool { return !wins(port) }); len(a.ports) == 0 && len(a.lost) > 0 {
			a.trouble.add(routeConflicted, "Service %s/%s has routes of a kind that comes before %s at every port that this one is for", n.Namespace, n.Name, a.ref.Kind)
		}
		if a.trouble.reason == "" && !servedAtServices.has(a.ref.Kind) {
			a.trouble.add(string(gatewayv1.RouteReasonUnsupportedValue), "parentRefs: %ss at Services are not in force, only HTTPRoutes and GRPCRoutes are", a.ref.Kind)
		}
	}
	limitRoutes(out)
	return out
}

// limitRoutes puts those that are beyond maxRoutesAt out of force.
func limitRoutes(all []*attachment) {
	if len(all) <= maxRoutesAt {
		return
	}
	byAge := slices.Clone(all)
	slices.SortFunc(byAge, func(a, b *attachment) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.ref.Name, b.ref.Name), strings.Compare(string(a.ref.Kind), string(b.ref.Kind)))
	})
	of := map[string]set[world.ObjectRef]{} // by consumer
	for _, a := range byAge {
		routes := of[a.consumer()]
		if routes == nil {
			routes = set[world.ObjectRef]{}
			of[a.consumer()] = routes
		}
		switch {
		case a.trouble.reason != "":
		case len(routes) < maxRoutesAt:
			routes.add(a.ref)
		case !routes.has(a.ref):
			a.ports = nil
			a.trouble.add(ReasonTooMany, "namespace %s has more than %d routes at Service %s/%s: the oldest %d are in force, which this one is not among", a.ref.Namespace, maxRoutesAt,
				a.parent.Namespace, a.parent.Name, maxRoutesAt)
		}
	}
}

// parentsOf gives a route's parents, of whichever kind it is, its generation, and when it was created.
func (x *index) parentsOf(ref world.ObjectRef) (parents []world.RouteParent, generation, created int64) {
	switch ref.Kind {
	case world.KindHTTPRoute:
		r := x.state.HTTPRoutes[ref.Key]
		return r.Parents, r.Generation, r.Created
	case world.KindGRPCRoute:
		r := x.state.GRPCRoutes[ref.Key]
		return r.Parents, r.Generation, r.Created
	case world.KindTLSRoute:
		r := x.state.TLSRoutes[ref.Key]
		return r.Parents, r.Generation, r.Created
	case world.KindTCPRoute:
		r := x.state.TCPRoutes[ref.Key]
		return r.Parents, r.Generation, r.Created
	case world.KindUDPRoute:
		r := x.state.UDPRoutes[ref.Key]
		return r.Parents, r.Generation, r.Created
	}
	return nil, 0, 0
}

// placeAt finds the ports of a Service at which a route is by one of its parents, or why it is at none.
func (x *index) placeAt(a *attachment, s *world.Service) {
	name := a.parent.Namespace + "/" + a.parent.Name
	switch {
	case s == nil:
		a.trouble.add(string(gatewayv1.RouteReasonNoMatchingParent), "there is no Service %s", name)
		return
	case s.ExternalName:
		a.trouble.add(string(gatewayv1.RouteReasonUnsupportedValue), "parentRefs: Service %s is an ExternalName, which has no address that connections could be known by", name)
		return
	case s.Headless:
		a.trouble.add(string(gatewayv1.RouteReasonUnsupportedValue), "parentRefs: Service %s is headless: it has no address that connections could be known by", name)
		return
	}
	ports, protocol := s.Ports, protocolTCP
	if a.ref.Kind == world.KindUDPRoute {
		ports, protocol = s.UDPPorts, protocolUDP
	}
	for _, p := range ports {
		if (a.parent.Port == 0 || p.Port == a.parent.Port) && (a.parent.Section == "" || p.Name == a.parent.Section) {
			a.ports = append(a.ports, p.Port)
		}
	}
	if len(a.ports) == 0 {
		wanted := ""
		if a.parent.Section != "" {
			wanted = fmt.Sprintf(" named %q", a.parent.Section)
		}
		if a.parent.Port != 0 {
			wanted += fmt.Sprintf(" with number %d", a.parent.Port)
		}
		a.trouble.add(string(gatewayv1.RouteReasonNoMatchingParent), "Service %s has no %s port%s", name, protocol, wanted)
		return
	}
	if !servedAtServices.has(a.ref.Kind) {
		return
	}
	// Not compileAt: what is left of a route is the same everywhere, and only what it may refer to depends on who does what it says, which may depend on this.
	if c := x.compileRoute(a.ref); c.void() {
		a.trouble, a.ports = c.dropped, nil
	}
}

// routed says whether the owner of a Service of our own cluster has routes at it, so that a waypoint has something to do. Routes of other namespaces do not count: what
// stands in front of a Service is for its own namespace to say.
func (x *index) routed(n serviceName) bool {
	return x.attachments(n).owned
}
