// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// compiledRoute is what a route means wherever it attaches. It depends on the route, on the Services that it refers to, and on grants.
type compiledRoute struct {
	route   *mesh.HTTPRoute
	refs    trouble    // why ResolvedRefs=False
	dropped trouble    // what of the route is not in force; PartiallyInvalid=True, or Accepted=False if nothing is left
	left    int        // rules in force; the others among the route's answer 500
	crosses bool       // it refers to other namespaces
	size    int        // of the route, once it was asked for
	targets []referral // of Services that BackendTLSPolicies are for, those that it refers to; once it was asked for
	among   int        // which Services those were: index.targetsSeen
	// inMesh is what it means at Services, as far as that is something else and was asked for: by the Service, or under none for all where its own namespace does what it says.
	inMesh map[serviceName]*compiledRoute
}

// refused says whether a route is not accepted, as no rule of it is in force. What is left of it answers 500 all the same, or wider routes would have its requests.
func (c *compiledRoute) refused() bool { return c.left == 0 && c.dropped.reason != "" }

// void says whether nothing is left of a route, so that nobody is told of it.
func (c *compiledRoute) void() bool { return len(c.route.Rules) == 0 }

// trouble is a reason and what to say of it; the zero one is none. The first reason stays, messages add up.
type trouble struct{ reason, message string }

func (t *trouble) add(reason, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if t.reason == "" {
		t.reason, t.message = reason, message
	} else if len(t.message) < maxMessage {
		t.message += "; " + message
	}
}

// foldRoute notes a route's parents, and what it refers to.
func (x *index) foldRoute(k world.ObjectRef, was, now *world.HTTPRoute, t *touched) {
	if k.Cluster != x.config.LocalCluster {
		return
	}
	delete(x.routes, k)
	delete(x.applied, k)
	t.routes = true
	x.foldServiceParents(k, parentsOf(was), parentsOf(now), t)
	for _, to := range backendsOf(was) {
		x.routesTo.remove(to, k)
		x.routesInto.remove(to.Namespace, k)
	}
	for _, to := range backendsOf(now) {
		x.routesTo.add(to, k)
		if to.Namespace != k.Namespace {
			x.routesInto.add(to.Namespace, k)
		}
	}
	if was == nil {
		x.routesFrom.add(k.Namespace, k)
	}
	if now == nil {
		x.routesFrom.remove(k.Namespace, k)
	}
}

// backendsOf are the Services that a route refers to, in any way.
func backendsOf(r *world.HTTPRoute) []world.Key {
	if r == nil {
		return nil
	}
	var out []world.Key
	add := func(ref gatewayv1.BackendObjectReference) {
		namespace := r.Namespace
		if ref.Namespace != nil {
			namespace = string(*ref.Namespace)
		}
		out = append(out, r.In(namespace, string(ref.Name)))
	}
	mirrors := func(filters []gatewayv1.HTTPRouteFilter) {
		for _, f := range filters {
			if f.RequestMirror != nil {
				add(f.RequestMirror.BackendRef)
			}
		}
	}
	for i := range r.Rules {
		mirrors(r.Rules[i].Filters)
		for _, b := range r.Rules[i].BackendRefs {
			add(b.BackendObjectReference)
			mirrors(b.Filters)
		}
	}
	return out
}

// foldBackend notes that a Service that routes send to came, went, or has other ports.
func (x *index) foldBackend(k world.Key, was, now *world.Service, t *touched) {
	routes := x.routesTo[k]
	if len(routes)+len(x.streams.to[k]) == 0 || was != nil && now != nil && was.ExternalName == now.ExternalName &&
		slices.Equal(was.Ports, now.Ports) && slices.Equal(was.UDPPorts, now.UDPPorts) && slices.Equal(was.Unspoken, now.Unspoken) && slices.Equal(was.AsksTLS, now.AsksTLS) && was.NotReady == now.NotReady && was.Families == now.Families {
		return
	}
	t.routes = true
	for route := range routes {
		x.recompile(route)
	}
}

// compileRoute gives what a route means, from memory unless something that it depends on changed.
func (x *index) compileRoute(k world.ObjectRef) *compiledRoute {
	if c := x.routes[k]; c != nil {
		return c
	}
	c := x.buildRoute(k, nil)
	x.routes[k] = c
	return c
}

// buildRoute works out what a route means, at Gateways, or at Services: then ungranted says to which of other namespaces it may refer without a grant.
func (x *index) buildRoute(k world.ObjectRef, ungranted func(serviceName) bool) *compiledRoute {
	grpc := x.state.GRPCRoutes[k.Key]
	r := x.state.HTTPRoutes[k.Key]
	if k.Kind == world.KindGRPCRoute {
		r = &grpc.HTTPRoute
	}
	c := &compiledRoute{route: &mesh.HTTPRoute{GRPC: k.Kind == world.KindGRPCRoute, Namespace: r.Namespace, Name: r.Name, Created: r.Created}}
	if ungranted == nil {
		c.route.Hostnames = r.Hostnames
	}
	b := ruleBuilder{x: x, route: k, out: c, ungranted: ungranted}
	for i := range r.Rules {
		b.at = fmt.Sprintf("rules[%d]", i)
		var matches []mesh.HTTPMatch
		var problem string
		if c.route.GRPC {
			matches, problem = matchesOf(grpc.Matches[i], grpcMatch)
		} else {
			matches, problem = matchesOf(r.Rules[i].Matches, match)
		}
		if problem != "" {
			c.dropped.add(string(gatewayv1.RouteReasonUnsupportedValue), "Dropped Rule %s: %s", b.at, problem)
			continue
		}
		b.rule(&r.Rules[i], matches)
	}
	if len(r.Rules) == 0 { // the API's default: one rule that matches everything
		b.rule(&gatewayv1.HTTPRouteRule{}, everything())
	}
	return c
}

// ruleBuilder makes the rules of one route.
type ruleBuilder struct {
	x     *index
	route world.ObjectRef
	at    string // the rule's field
	out   *compiledRoute
	// ungranted says to which Services of other namespaces the route may refer without a grant; nil: to none.
	ungranted func(serviceName) bool
}

func (b *ruleBuilder) rule(r *gatewayv1.HTTPRouteRule, matches []mesh.HTTPMatch) {
	out := mesh.HTTPRule{Matches: matches}
	if r.Name != nil {
		out.Name = string(*r.Name)
	}
	var problem trouble
	out.Filters = b.filters(b.at, r.Filters, &problem)
	for i := range r.BackendRefs {
		ref := &r.BackendRefs[i]
		at := fmt.Sprintf("%s.backendRefs[%d]", b.at, i)
		backend := b.backend(at, ref.BackendObjectReference)
		backend.Weight = 1
		if ref.Weight != nil {
			backend.Weight = uint32(max(*ref.Weight, 0))
		}
		backend.Filters = b.filters(at, ref.Filters, &problem)
		out.Backends = append(out.Backends, backend)
	}
	if t := r.Timeouts; t != nil {
		out.RequestTimeout, out.BackendTimeout = world.Duration(t.Request), world.Duration(t.BackendRequest)
	}
	out.Retry = retry(r.Retry)
	if fault := out.Fault(); fault != "" { // what gateways do not take is not told
		problem.add(string(gatewayv1.RouteReasonUnsupportedValue), "%s: %s", b.at, fault)
		out = mesh.HTTPRule{Matches: matches}
	}
	if problem.reason != "" {
		// A filter must not be left away: what it was to do (or to prevent) would not be done.
		out.Problem = shorten(problem.message)
		b.out.dropped.add(problem.reason, "Dropped Rule %s, whose requests are answered with 500: %s", b.at, problem.message)
	} else {
		b.out.left++
	}
	b.out.route.Rules = append(b.out.route.Rules, out)
}

// backend finds what a reference of the route means. One that means nothing is a backend with a problem.
func (b *ruleBuilder) backend(at string, ref gatewayv1.BackendObjectReference) mesh.HTTPBackend {
	b.out.crosses = b.out.crosses || ref.Namespace != nil && string(*ref.Namespace) != b.route.Namespace
	service, port, problem := b.x.backendOf(b.route, ref, b.ungranted)
	if problem.reason != "" {
		message := at + ": " + problem.message
		b.out.refs.add(problem.reason, "%s", message)
		return mesh.HTTPBackend{Problem: shorten(message)}
	}
	return mesh.HTTPBackend{Service: service, Port: port, HTTP2: b.out.route.GRPC}
}

// backendOf finds the port of a Service that a route refers to, or says why it may not.
func (x *index) backendOf(from world.ObjectRef, ref gatewayv1.BackendObjectReference, ungranted func(serviceName) bool) (service mesh.ServiceKey, port uint16, problem trouble) {
	fail := func(reason gatewayv1.RouteConditionReason, format string, args ...any) (mesh.ServiceKey, uint16, trouble) {
		return mesh.ServiceKey{}, 0, trouble{string(reason), fmt.Sprintf(format, args...)}
	}
	group, kind, namespace := "", string(world.KindService), from.Namespace
	if ref.Group != nil {
		group = string(*ref.Group)
	}
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	udp := from.Kind == world.KindUDPRoute // the mesh carries none, so that other clusters are out of reach
	imported := group == groupMultiCluster && kind == kindServiceImport
	if imported && udp {
		return fail(gatewayv1.RouteReasonInvalidKind, "kind %s of group %q is not supported for datagrams, only Service is", kind, group)
	}
	if !imported && (group != "" || kind != string(world.KindService)) {
		return fail(gatewayv1.RouteReasonInvalidKind, "kind %s of group %q is not supported, only Service and ServiceImport are", kind, group)
	}
	// Who may not refer learns nothing of what is there.
	n := serviceName{namespace, string(ref.Name)}
	if free := ungranted != nil && ungranted(n); !free && !x.granted(from.Key, from.Kind, world.GrantTo{Group: group, Kind: kind, Name: string(ref.Name)}, namespace) {
		return fail(gatewayv1.RouteReasonRefNotPermitted, "no ReferenceGrant in namespace %s allows %ss of namespace %s to refer to %s %s", namespace, from.Kind, from.Namespace, kind, ref.Name)
	}
	s := x.state.Services[n.in(x.config.LocalCluster)]
	if a := x.answerOf(n); s == nil && !udp && a != nil && a.service != nil {
		return x.importedPort(n, a, ref.Port)
	} else if imported && (a == nil || !a.exported) {
		return fail(gatewayv1.RouteReasonBackendNotFound, "no service %s/%s is shared between clusters", namespace, ref.Name)
	}
	if s == nil {
		return fail(gatewayv1.RouteReasonBackendNotFound, "there is no Service %s/%s", namespace, ref.Name)
	}
	if s.ExternalName {
		return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s/%s is an ExternalName, which has no endpoints", namespace, ref.Name)
	}
	ports, protocol := s.Ports, "TCP"
	if udp {
		ports, protocol = s.UDPPorts, "UDP"
	}
	if ref.Port == nil || !slices.ContainsFunc(ports, func(p world.ServicePort) bool { return int32(p.Port) == *ref.Port }) {
		var wanted int32
		if ref.Port != nil {
			wanted = *ref.Port
		}
		return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s/%s has no %s port %d", namespace, ref.Name, protocol, wanted)
	}
	looksInside := from.Kind == world.KindHTTPRoute || from.Kind == world.KindGRPCRoute
	if looksInside && slices.Contains(s.Unspoken, uint16(*ref.Port)) {
		return fail(gatewayv1.RouteReasonUnsupportedProtocol, "port %d of Service %s/%s has an appProtocol that is not supported, of those with a prefix only kubernetes.io/h2c, kubernetes.io/ws and kubernetes.io/wss are", *ref.Port, namespace, ref.Name)
	}
	if looksInside && slices.Contains(s.AsksTLS, uint16(*ref.Port)) && !x.hasTLSPolicy(s, uint16(*ref.Port)) {
		return fail(gatewayv1.RouteReasonUnsupportedProtocol, "port %d of Service %s/%s has an appProtocol that wants TLS, and no BackendTLSPolicy is for it", *ref.Port, namespace, ref.Name)
	}
	return x.serviceKey(n), uint16(*ref.Port), trouble{}
}

// compareRoutes orders routes by precedence: the oldest first, then by name.
func compareRoutes(a, b *mesh.HTTPRoute) int {
	// Not in one expression, which would compare all of them for each pair of thousands.
	if c := cmp.Compare(a.Created, b.Created); c != 0 {
		return c
	}
	return comparePaths(a.Namespace, a.Name, b.Namespace, b.Name)
}
