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
	ReasonNoWaypoint = "NoWaypoint" // labels want none
	ReasonNotOurs    = "NotOurs"    // the waypoint is another controller's, which decides by itself what routes mean, or nobody's
)

// compileAt gives what a route means at one of its parents that is a Service: hostnames do not count. At a Service of its own namespace it may refer to other
// namespaces without a grant if the waypoint there is of that namespace too. Anywhere else, what it says is done by somebody else's waypoint, with an identity that may
// be let in where the route's own namespace is not: so it may lead to that Service and to its own namespace, and to anything else by a grant only, whatever other
// parents it names.
func (x *index) compileAt(a *attachment) *compiledRoute {
	c := x.compileRoute(a.ref)
	if !c.crosses && len(c.route.Hostnames) == 0 {
		return c
	}
	var at serviceName
	ungranted := func(serviceName) bool { return true }
	if !x.carriesItself(a) {
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

// carriesItself says whether nobody but a route's own namespace may do what it says at a Service, by the waypoint that the Service is to have.
func (x *index) carriesItself(a *attachment) bool {
	if a.consumer() != "" {
		return false
	}
	s := x.state.Services[a.ref.In(a.parent.Namespace, a.parent.Name)]
	if s == nil {
		return true
	}
	w, _ := x.serviceWish(s)
	return !w.wanted() || w.gateway.Namespace == a.ref.Namespace
}

// serviceRoutes are the routes at Services that a waypoint of our own cluster takes in, sorted: it knows them before the first connection.
func (x *index) serviceRoutes(waypoint world.Key) []mesh.ServiceRoutes {
	at := map[serviceName][]*attachment{}
	x.carriedBy(waypoint, func(n serviceName, a *attachment) {
		if _, without := x.leftOut[left{waypoint, a}]; !without {
			at[n] = append(at[n], a)
		}
	})
	var out []mesh.ServiceRoutes
	for n, all := range at {
		out = append(out, x.routesOf(n, all)...)
	}
	slices.SortFunc(out, mesh.CompareServiceRoutes)
	return out
}

// routesOf are some routes at one Service, by port and consumer. What is the same at every port is said once.
func (x *index) routesOf(n serviceName, all []*attachment) []mesh.ServiceRoutes {
	consumers := map[string]map[uint16][]*mesh.HTTPRoute{}
	for _, a := range all {
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

// enforcedFor names whose routes at a Service are asked about: those of a consumer, or with none the owner's.
type enforcedFor struct {
	service  serviceName
	consumer string
}

// carried is whether a waypoint does what routes at a Service say: a finding that is the same for all of them.
type carried struct {
	enforced        bool
	reason, message string
}

// servicesSaid is what was found about a route at those of its parents that are Services, and for what.
type servicesSaid struct {
	fresh    bool          // nothing that it depends on was touched since, but perhaps what waypoints are not told of
	leftSeen int           // index.leftSeen when it was found
	services []serviceName // distinct; nil: nobody looked
	of       []standingAt
	findings []Finding
}

// standingAt is what findings about a route at a Service depend on.
type standingAt struct {
	of       *attachment // another one once the Service, the route, or another one there is another
	overload trouble
	compiled *compiledRoute
	by       carried
}

// atServices says on a route what became of it at those of its parents that are Services: the same as the last time if nothing is another, and where nothing was touched nobody looks. What it
// works out of Services it leaves for other routes at them, in memory.
func (x *index) atServices(a *applicant, memory map[enforcedFor]carried) []Finding {
	said := &a.atServices
	if said.fresh && said.leftSeen == x.leftSeen {
		return said.findings
	}
	said.fresh, said.leftSeen = true, x.leftSeen
	if said.services == nil {
		said.services = slices.AppendSeq([]serviceName{}, maps.Keys(servicesAmong(a.parents)))
	}
	now := x.standings[:0]
	x.servicesAsked += len(said.services)
	for _, n := range said.services {
		for _, at := range x.attachments(n).byRoute[a.ref] {
			now = append(now, x.standsAt(at, memory))
		}
	}
	x.standings = now
	if slices.Equal(now, said.of) {
		return said.findings
	}
	said.of, said.findings = slices.Clone(now), nil
	for i := range now {
		said.findings = append(said.findings, now[i].report()...)
	}
	slices.SortFunc(said.findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Parent.Namespace, b.Parent.Namespace), strings.Compare(a.Parent.Name, b.Parent.Name), strings.Compare(a.Parent.Section, b.Parent.Section),
			cmp.Compare(a.Parent.Port, b.Parent.Port), strings.Compare(a.Type, b.Type))
	})
	return said.findings
}

// touchRoutes notes that what becomes of routes at a Service may be something else.
func (x *index) touchRoutes(n serviceName) {
	for ref := range x.routesAt[n] {
		if a := x.applied[ref]; a != nil {
			a.atServices.fresh = false
		}
	}
}

// recompile has a route worked out anew, and what became of it at Services.
func (x *index) recompile(ref world.ObjectRef) {
	delete(x.routes, ref)
	if a := x.applied[ref]; a != nil {
		a.atServices.fresh = false
	}
}

// standsAt finds what becomes of a route at a Service.
func (x *index) standsAt(a *attachment, memory map[enforcedFor]carried) standingAt {
	out := standingAt{of: a}
	if a.trouble.reason == "" {
		out.overload = x.overload(a)
	}
	if !servedAtServices.has(a.ref.Kind) {
		return out // nobody looks at what it refers to
	}
	out.compiled = x.compileAt(a)
	if a.trouble.reason != "" || out.overload.reason != "" {
		return out
	}
	of := enforcedFor{serviceName{a.parent.Namespace, a.parent.Name}, a.consumer()}
	by, known := memory[of]
	if !known {
		by.enforced, by.reason, by.message = x.enforces(of)
		memory[of] = by
	}
	out.by = by
	return out
}

// report says what became of a route at a Service.
func (s *standingAt) report() []Finding {
	a, c := s.of, s.compiled
	finding := findingAt(a.parent, a.generation)
	problem := a.trouble
	if problem.reason == "" {
		problem = s.overload
	}
	told := problem.reason == ""
	if told && c != nil && c.refused() {
		problem = c.dropped
	}
	ok, message := problem.reason == "", problem.message
	if ok {
		message = "the route is served"
		if len(a.lost) > 0 {
			message += fmt.Sprintf("; not at ports %v, where routes of another kind come first", a.lost)
		}
	}
	out := []Finding{finding(routeAccepted, ok, cmp.Or(problem.reason, string(gatewayv1.RouteReasonAccepted)), message)}
	if c == nil {
		return out
	}
	if c.refs.reason != "" {
		out = append(out, finding(routeResolved, false, c.refs.reason, c.refs.message))
	} else {
		out = append(out, finding(routeResolved, true, string(gatewayv1.RouteReasonResolvedRefs), "the route refers to nothing that is missing"))
	}
	if !told {
		return out
	}
	if ok && c.dropped.reason != "" {
		out = append(out, finding(partiallyInvalid, true, c.dropped.reason, c.dropped.message))
	}
	return append(out, finding(ConditionEnforced, s.by.enforced, s.by.reason, s.by.message))
}

// enforces says whether a waypoint does what routes at a Service of our own cluster say, which is there.
func (x *index) enforces(of enforcedFor) (bool, string, string) {
	n := of.service
	s := x.state.Services[n.in(x.config.LocalCluster)]
	w, _ := x.serviceWish(s)
	switch {
	case !w.set && s.Labels[LabelGatewayName] != "":
		return false, ReasonNoWaypoint, fmt.Sprintf("Service %s/%s is a gateway's own, which is behind no waypoint: requests go straight to its endpoints", n.Namespace, n.Name)
	case !w.set:
		return x.consumerEnforces(n, of.consumer) // its owner has none in force
	case !w.wanted():
		return false, ReasonNoWaypoint, fmt.Sprintf("Service %s/%s is to have no waypoint, by a label of it or of its namespace: requests go straight to its endpoints", n.Namespace, n.Name)
	}
	name := w.gateway.Namespace + "/" + w.gateway.Name
	at, reason, message := x.bind(w.gateway, s.Namespace, forServices)
	switch g := x.state.Gateways[w.gateway]; {
	case at == nil && of.consumer != "":
		return x.consumerEnforces(n, of.consumer)
	case at == nil:
		return false, reason, message + ": requests go straight to the endpoints"
	case x.governs(g):
	case x.state.GatewayClasses[g.In("", g.Class)] == nil:
		return false, ReasonNotOurs, fmt.Sprintf("requests go through waypoint %s, which is nobody's: there is no GatewayClass %s", name, g.Class)
	default:
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
