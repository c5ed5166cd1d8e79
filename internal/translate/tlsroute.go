// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
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
	ref := world.ObjectRef{Kind: world.KindTLSRoute, Key: k}
	delete(x.applied, ref)
	x.foldServiceParents(ref, tlsParents(was), tlsParents(now), t)
	x.streams.fold(ref, tlsRules(was), tlsRules(now), now != nil)
}

// tlsRules are a route's backends by rule.
func tlsRules(r *world.TLSRoute) [][]gatewayv1.BackendRef {
	if r == nil {
		return nil
	}
	var out [][]gatewayv1.BackendRef
	for _, rule := range r.Rules {
		out = append(out, rule.BackendRefs)
	}
	return out
}

// claimant is a TLSRoute that attaches to a listener, before it is settled which names it has there.
type claimant struct {
	*applicant
	names []claimedName
}

// claimedName is a hostname that a route and its listener have in common, "" for every one, and what the route says for it.
type claimedName struct{ common, own string }

// claim is a TLSRoute at a listener of a hostname.
func (a *applicant) claim(hostname string) claimant {
	return claimant{a, claimedNames(hostname, a.hostnames)}
}

// common are the hostnames that a listener and a route have in common, none for every one. There is one, or the route did not attach.
func common(listener string, route []string) []string {
	if len(route) == 0 && listener != "" {
		return []string{listener}
	}
	var out []string
	for _, n := range claimedNames(listener, route) {
		if n.common != "" && !slices.Contains(out, n.common) {
			out = append(out, n.common)
		}
	}
	return out
}

// claimedNames are the same, each with what the route says for it.
func claimedNames(listener string, route []string) []claimedName {
	if len(route) == 0 {
		return []claimedName{{common: listener}}
	}
	var out []claimedName
	for _, h := range route {
		if listener != "" && !mesh.HostnamesMeet(listener, h) {
			continue
		}
		both := h
		// The narrower of the two: an exact one, or the longer wildcard.
		if listener != "" && strings.HasPrefix(h, "*.") && (!strings.HasPrefix(listener, "*.") || len(listener) > len(h)) {
			both = listener
		}
		out = append(out, claimedName{both, h})
	}
	return out
}

// settleNames gives each hostname of a listener to one route: to that which says it most exactly itself, whatever the listener cuts away from it
// (GatewayRouteHostnameIntersectionPrecedence), then to the oldest, then to the first by name, which is the order they come in. It says how many routes there are; those that are
// left without a name attach, and get nothing.
func settleNames(all []claimant) (out []*mesh.TLSRoute, attached int) {
	all = slices.CompactFunc(all, func(a, b claimant) bool { return a.applicant == b.applicant }) // a route may come by two of its parents
	type holder struct {
		route int
		own   string
	}
	holders := map[string]holder{}
	for i, c := range all {
		for _, n := range c.names {
			if has, ok := holders[n.common]; !ok || compareExactness(n.own, has.own) > 0 {
				holders[n.common] = holder{i, n.own}
			}
		}
	}
	for i, c := range all {
		var route *mesh.TLSRoute
		for _, n := range c.names {
			if holders[n.common] != (holder{i, n.own}) {
				continue
			}
			if route == nil {
				route = &mesh.TLSRoute{Namespace: c.ref.Namespace, Name: c.ref.Name, Backends: c.backends}
			}
			if n.common != "" && !slices.Contains(route.Hostnames, n.common) {
				route.Hostnames = append(route.Hostnames, n.common)
			}
		}
		if route != nil {
			out = append(out, route)
		}
	}
	return out, len(all)
}

// compareExactness orders hostnames: none at all, then wildcards, the longer the later, then exact ones.
func compareExactness(a, b string) int {
	class := func(h string) int {
		switch {
		case h == "":
			return 0
		case strings.HasPrefix(h, "*."):
			return 1
		}
		return 2
	}
	if c := cmp.Compare(class(a), class(b)); c != 0 || class(a) != 1 {
		return c
	}
	return cmp.Compare(len(a), len(b))
}
