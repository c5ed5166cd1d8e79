// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"iter"
	"maps"
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

// common are the hostnames that a listener and a route have in common, none for every one. There is one, or the route did not attach.
func common(listener string, route []string) []string {
	if len(route) == 0 && listener != "" {
		return []string{listener}
	}
	var out []string
	for both := range claimedNames(listener, route) {
		if both != "" && !slices.Contains(out, both) {
			out = append(out, both)
		}
	}
	return out
}

// claimedNames are the same, "" for every one, each with what the route says for it. Each route is asked at each of its listeners for each change of any, so that nothing is allocated here.
func claimedNames(listener string, route []string) iter.Seq2[string, string] {
	return func(yield func(both, own string) bool) {
		if len(route) == 0 {
			yield(listener, "")
			return
		}
		for _, h := range route {
			if listener != "" && !mesh.HostnamesMeet(listener, h) {
				continue
			}
			both := h
			// The narrower of the two: an exact one, or the longer wildcard.
			if listener != "" && strings.HasPrefix(h, "*.") && (!strings.HasPrefix(listener, "*.") || len(listener) > len(h)) {
				both = listener
			}
			if !yield(both, h) {
				return
			}
		}
	}
}

// tlsClaims are the hostnames of a listener while the TLSRoutes come that attach to it: the oldest first, then the first by name.
type tlsClaims struct {
	routes  int        // that came; those that have no name attach, and get nothing
	last    *applicant // of these
	holders map[string]holder
}

// holder is who has a hostname.
type holder struct {
	*applicant
	came int    // as which
	own  string // what it says for it itself
}

// claim gives a route those hostnames in common with the listener that nobody has who came before it, or that it says more exactly itself, whatever the listener cuts away from it
// (GatewayRouteHostnameIntersectionPrecedence).
func (c *tlsClaims) claim(a *applicant, hostname string) {
	if c.last == a {
		return // by another of its parents
	}
	if c.holders == nil {
		c.holders = map[string]holder{}
	}
	c.last = a
	c.routes++
	for both, own := range claimedNames(hostname, a.hostnames) {
		if has, ok := c.holders[both]; !ok || compareExactness(own, has.own) > 0 {
			c.holders[both] = holder{a, c.routes, own}
		}
	}
}

// settled are the routes that have any, each with its hostnames, when all came.
func (c *tlsClaims) settled(hostname string) []*mesh.TLSRoute {
	if c.routes == 0 {
		return nil
	}
	var out []*mesh.TLSRoute
	came := 0
	for _, h := range slices.SortedFunc(maps.Values(c.holders), func(a, b holder) int { return cmp.Compare(a.came, b.came) }) {
		if h.came == came {
			continue
		}
		came = h.came
		route := &mesh.TLSRoute{Namespace: h.ref.Namespace, Name: h.ref.Name, Backends: h.backends}
		for both, own := range claimedNames(hostname, h.hostnames) {
			if both != "" && c.holders[both] == (holder{h.applicant, came, own}) && !slices.Contains(route.Hostnames, both) {
				route.Hostnames = append(route.Hostnames, both)
			}
		}
		out = append(out, route)
	}
	return out
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
