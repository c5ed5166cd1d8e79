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

// ConditionEnforced is on a route at a parent that is a Service: whether a waypoint does what the route says.
const ConditionEnforced = "isthmus.dev/Enforced"

// Reasons of ConditionEnforced, besides those of ConditionWaypointBound.
const (
	ReasonNoWaypoint = "NoWaypoint" // labels want none, or leave it open while only routes of other namespaces are at the Service
	ReasonNotOurs    = "NotOurs"    // the waypoint is another controller's, which decides by itself what routes mean
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

// attachments are the routes that want to be at a Service of our own cluster, in no particular order, from memory unless it or one of them changed: they depend on nothing else.
func (x *index) attachments(n serviceName) []*attachment {
	if out, ok := x.attached[n]; ok || len(x.routesAt[n]) == 0 {
		return out
	}
	out := x.attachAt(n)
	x.attached[n] = out
	return out
}

// attachAt works out attachments.
func (x *index) attachAt(n serviceName) []*attachment {
	var out []*attachment
	for ref := range x.routesAt[n] {
		parents, generation := x.parentsOf(ref)
		for i, p := range parents {
			if isService(p) && p.Namespace == n.Namespace && p.Name == n.Name && !slices.Contains(parents[:i], p) {
				a := &attachment{ref: ref, parent: p, generation: generation}
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
	return out
}

// parentsOf gives a route's parents, of whichever kind it is.
func (x *index) parentsOf(ref world.ObjectRef) ([]world.RouteParent, int64) {
	switch ref.Kind {
	case world.KindHTTPRoute:
		r := x.state.HTTPRoutes[ref.Key]
		return r.Parents, r.Generation
	case world.KindGRPCRoute:
		r := x.state.GRPCRoutes[ref.Key]
		return r.Parents, r.Generation
	case world.KindTLSRoute:
		r := x.state.TLSRoutes[ref.Key]
		return r.Parents, r.Generation
	case world.KindTCPRoute:
		r := x.state.TCPRoutes[ref.Key]
		return r.Parents, r.Generation
	case world.KindUDPRoute:
		r := x.state.UDPRoutes[ref.Key]
		return r.Parents, r.Generation
	}
	return nil, 0
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
	if c := x.compileAt(a); c.left == 0 && c.dropped.reason != "" {
		a.trouble, a.ports = c.dropped, nil
	}
}

// compileAt gives what a route means at one of its parents that is a Service: hostnames do not count. At a Service of its own namespace it may refer to other
// namespaces without a grant. At somebody else's, what it says is done by a waypoint there, with an identity that may be let in where the route's own namespace is
// not: so it may lead to that Service and to its own namespace, and to anything else by a grant only, whatever other parents it names.
func (x *index) compileAt(a *attachment) *compiledRoute {
	c := x.compileRoute(a.ref)
	if !c.crosses && len(c.route.Hostnames) == 0 {
		return c
	}
	var at serviceName
	ungranted := func(serviceName) bool { return true }
	if a.consumer() != "" {
		at = serviceName{a.parent.Namespace, a.parent.Name}
		ungranted = func(n serviceName) bool { return n == at }
	}
	out := c.inMesh[at]
	if out == nil {
		out = x.buildRoute(a.ref, ungranted)
		if c.inMesh == nil {
			c.inMesh = map[serviceName]*compiledRoute{}
		}
		c.inMesh[at] = out
	}
	return out
}

// routed says whether the owner of a Service of our own cluster has routes at it, so that a waypoint has something to do. Routes of other namespaces do not count: what
// stands in front of a Service is for its own namespace to say.
func (x *index) routed(n serviceName) bool {
	return len(x.routesAt[n]) > 0 && slices.ContainsFunc(x.attachments(n), func(a *attachment) bool { return a.trouble.reason == "" && a.consumer() == "" })
}

// serviceRoutes are the routes at Services that a waypoint of our own cluster takes in, sorted: it knows them before the first connection.
func (x *index) serviceRoutes(waypoint world.Key) []mesh.ServiceRoutes {
	var out []mesh.ServiceRoutes
	for n := range x.takenIn[waypoint] {
		if len(x.routesAt[n]) > 0 {
			out = append(out, x.routesOf(n)...)
		}
	}
	slices.SortFunc(out, mesh.CompareServiceRoutes)
	return out
}

// routesOf are the routes at one Service, by port and consumer. What is the same at every port is said once.
func (x *index) routesOf(n serviceName) []mesh.ServiceRoutes {
	consumers := map[string]map[uint16][]*mesh.HTTPRoute{}
	for _, a := range x.attachments(n) {
		if a.trouble.reason != "" {
			continue
		}
		at := consumers[a.consumer()]
		if at == nil {
			at = map[uint16][]*mesh.HTTPRoute{}
			consumers[a.consumer()] = at
		}
		route := x.compileAt(a).route
		for _, port := range a.ports {
			at[port] = append(at[port], route)
		}
	}
	var out []mesh.ServiceRoutes
	service := x.state.Services[n.in(x.config.LocalCluster)]
	for consumer, at := range consumers {
		for port, routes := range at {
			slices.SortFunc(routes, compareRoutes)
			at[port] = slices.Compact(routes) // a route may come by two of its parents
		}
		any := at[service.Ports[0].Port]
		if !slices.ContainsFunc(service.Ports, func(p world.ServicePort) bool { return !slices.Equal(at[p.Port], any) }) {
			at = map[uint16][]*mesh.HTTPRoute{0: any}
		}
		for port, routes := range at {
			out = append(out, mesh.ServiceRoutes{Service: x.serviceKey(n), Port: port, Consumer: consumer, Routes: routes})
		}
	}
	return out
}

// atServices says on a route what became of it at those of its parents that are Services.
func (x *index) atServices(ref world.ObjectRef, parents []world.RouteParent) []Finding {
	var out []Finding
	for n := range servicesAmong(parents) {
		for _, a := range x.attachments(n) {
			if a.ref == ref {
				out = append(out, x.report(a)...)
			}
		}
	}
	slices.SortFunc(out, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Parent.Namespace, b.Parent.Namespace), strings.Compare(a.Parent.Name, b.Parent.Name), strings.Compare(a.Parent.Section, b.Parent.Section),
			cmp.Compare(a.Parent.Port, b.Parent.Port), strings.Compare(a.Type, b.Type))
	})
	return out
}

// report says what became of a route at a Service.
func (x *index) report(a *attachment) []Finding {
	finding := findingAt(a.parent, a.generation)
	ok, message := a.trouble.reason == "", a.trouble.message
	if ok {
		message = "the route is served"
		if len(a.lost) > 0 {
			message += fmt.Sprintf("; not at ports %v, where routes of another kind come first", a.lost)
		}
	}
	out := []Finding{finding(routeAccepted, ok, cmp.Or(a.trouble.reason, string(gatewayv1.RouteReasonAccepted)), message)}
	if !servedAtServices.has(a.ref.Kind) {
		return out // nobody looked at what it refers to
	}
	c := x.compileAt(a)
	if c.refs.reason != "" {
		out = append(out, finding(routeResolved, false, c.refs.reason, c.refs.message))
	} else {
		out = append(out, finding(routeResolved, true, string(gatewayv1.RouteReasonResolvedRefs), "the route refers to nothing that is missing"))
	}
	if !ok {
		return out
	}
	if c.dropped.reason != "" {
		out = append(out, finding(partiallyInvalid, true, c.dropped.reason, c.dropped.message))
	}
	enforced, reason, message := x.enforces(serviceName{a.parent.Namespace, a.parent.Name})
	return append(out, finding(ConditionEnforced, enforced, reason, message))
}

// enforces says whether a waypoint does what routes at a Service of our own cluster say, which is there.
func (x *index) enforces(n serviceName) (bool, string, string) {
	s := x.state.Services[n.in(x.config.LocalCluster)]
	w, _ := x.serviceWish(s)
	switch {
	case !w.set && s.Labels[LabelGatewayName] != "":
		return false, ReasonNoWaypoint, fmt.Sprintf("Service %s/%s is a gateway's own, which is behind no waypoint: requests go straight to its endpoints", n.Namespace, n.Name)
	case !w.set:
		return false, ReasonNoWaypoint, fmt.Sprintf("Service %s/%s has routes of other namespaces only, for which none is put in front of it: its owner must name a waypoint by label %s; requests go straight to its endpoints",
			n.Namespace, n.Name, world.LabelUseWaypoint)
	case !w.wanted():
		return false, ReasonNoWaypoint, fmt.Sprintf("Service %s/%s is to have no waypoint, by a label of it or of its namespace: requests go straight to its endpoints", n.Namespace, n.Name)
	}
	name := w.gateway.Namespace + "/" + w.gateway.Name
	at, reason, message := x.bind(w.gateway, s.Namespace, forServices)
	switch g := x.state.Gateways[w.gateway]; {
	case at == nil:
		return false, reason, message + ": requests go straight to the endpoints"
	case !x.ourClass(g.Class):
		return false, ReasonNotOurs, fmt.Sprintf("requests go through waypoint %s, which is another controller's", name)
	}
	return true, ReasonEnforced, fmt.Sprintf("requests go through waypoint %s", name)
}

// AutomaticWaypoint is the name of the Gateway that is made in a namespace with Services that are to be behind it: because they have routes and labels name no
// waypoint, or because labels name this one. See Output.WantWaypoints.
const AutomaticWaypoint = "isthmus-waypoint"

// automatic says whether a Gateway of our own cluster is one that is made when it is needed.
func (x *index) automatic(k world.Key) bool {
	return k.Cluster == x.config.LocalCluster && k.Name == AutomaticWaypoint
}

// wantsAutomatic says whether a Service of our own cluster is to be behind its own namespace's automatic waypoint. One of another namespace is for others to want.
func (x *index) wantsAutomatic(s *world.Service) bool {
	w, _ := x.serviceWish(s)
	return w.gateway == s.In(s.Namespace, AutomaticWaypoint)
}

// serviceWish is the waypoint that a Service of our own cluster is to be behind: by its labels, by its namespace's, or, as its owner's routes are of no use without one, the automatic one. own
// says that it is not the namespace's.
func (x *index) serviceWish(s *world.Service) (w wish, own bool) {
	if w, own = x.wishFor(s.Labels, s.Cluster, s.Namespace); !w.set && x.needsWaypoint(s) {
		return wish{true, s.In(s.Namespace, AutomaticWaypoint)}, true
	}
	return w, own
}

// needsWaypoint says whether a Service of our own cluster has routes of its owner and labels leave it open who enforces them.
func (x *index) needsWaypoint(s *world.Service) bool {
	if s.Labels[LabelGatewayName] != "" { // it is a gateway's own
		return false
	}
	w, _ := x.wishFor(s.Labels, s.Cluster, s.Namespace)
	return !w.set && x.routed(nameOf(s.Key))
}

// wantedWaypoints are the namespaces that need an automatic waypoint, sorted.
func wantedWaypoints(of multi[string, serviceName]) []string {
	if len(of) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(of))
}
