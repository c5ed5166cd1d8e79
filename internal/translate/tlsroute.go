// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// foldTLSRoute notes what a route refers to.
func (x *index) foldTLSRoute(k world.Key, was, now *world.TLSRoute, t *touched) {
	if k.Cluster != x.config.LocalCluster {
		return
	}
	t.routes = true
	x.foldServiceParents(world.ObjectRef{Kind: world.KindTLSRoute, Key: k}, tlsParents(was), tlsParents(now), t)
	for _, to := range tlsBackends(was) {
		x.tlsRoutesTo.remove(to, k)
	}
	for _, to := range tlsBackends(now) {
		x.tlsRoutesTo.add(to, k)
	}
	if was == nil {
		x.tlsRoutesFrom.add(k.Namespace, k)
	}
	if now == nil {
		x.tlsRoutesFrom.remove(k.Namespace, k)
	}
}

// tlsBackends are the Services that a route refers to.
func tlsBackends(r *world.TLSRoute) []world.Key {
	if r == nil {
		return nil
	}
	var out []world.Key
	for _, rule := range r.Rules {
		for _, ref := range rule.BackendRefs {
			namespace := r.Namespace
			if ref.Namespace != nil {
				namespace = string(*ref.Namespace)
			}
			out = append(out, r.In(namespace, string(ref.Name)))
		}
	}
	return out
}

// attachTLS is attach for a TLSRoute.
func (x *index) attachTLS(r *world.TLSRoute, p world.RouteParent, g *gate) []Finding {
	finding := findingAt(p, r.Generation)
	backends, refs := x.tlsRouteBackends(r)
	at, reason, message := x.fitting(r.Ref(), r.Hostnames, p, g)
	for _, i := range at {
		g.tlsRoutes[i] = append(g.tlsRoutes[i], &mesh.TLSRoute{
			Namespace: r.Namespace, Name: r.Name, Created: r.Created, Backends: backends,
			Hostnames: common(g.verdicts[i].listener.Hostname, r.Hostnames),
		})
	}
	if reason == "" {
		message = "the route is served"
	}
	out := []Finding{finding(routeAccepted, reason == "", cmp.Or(reason, string(gatewayv1.RouteReasonAccepted)), message)}
	if refs.reason == "" {
		return append(out, finding(routeResolved, true, string(gatewayv1.RouteReasonResolvedRefs), "the route refers to nothing that is missing"))
	}
	return append(out, finding(routeResolved, false, refs.reason, refs.message))
}

// tlsRouteBackends are where a route's connections go: those of all its rules, which match the same.
func (x *index) tlsRouteBackends(r *world.TLSRoute) (out []mesh.TLSBackend, refs trouble) {
	for i, rule := range r.Rules {
		for j, ref := range rule.BackendRefs {
			b := mesh.TLSBackend{Weight: 1}
			if ref.Weight != nil {
				b.Weight = uint32(max(*ref.Weight, 0))
			}
			var problem trouble
			if b.Service, b.Port, problem = x.backendOf(r.Ref(), ref.BackendObjectReference, false); problem.reason != "" {
				b.Problem = fmt.Sprintf("rules[%d].backendRefs[%d]: %s", i, j, problem.message)
				refs.add(problem.reason, "%s", b.Problem)
			}
			out = append(out, b)
		}
	}
	return out, refs
}

// common are the hostnames that a listener and a route have in common, none for every one. There is one, or the route did not attach.
func common(listener string, route []string) []string {
	if listener == "" {
		return route
	}
	if len(route) == 0 {
		return []string{listener}
	}
	var out []string
	for _, h := range route {
		if !meets(listener, h) {
			continue
		}
		// The narrower of the two: an exact one, or the longer wildcard.
		if strings.HasPrefix(h, "*.") && (!strings.HasPrefix(listener, "*.") || len(listener) > len(h)) {
			h = listener
		}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// compareTLSRoutes orders routes by precedence: the oldest first, then by name.
func compareTLSRoutes(a, b *mesh.TLSRoute) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
