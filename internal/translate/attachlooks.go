// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxLooks is at how many listeners of one Gateway the routes of one namespace are looked for, for each change of any route or Gateway: some 20 ms. 2,000 routes with all of 100
// listeners as their parents are as many; one that names its listener is looked for at that alone.
const maxLooks = 200_000

// look is a route that is to be found its listeners at a gate.
type look struct {
	ref       world.ObjectRef
	created   int64
	listeners int // that its parents have there
}

// eachRoute calls f for the routes of our own cluster, in no particular order.
func (x *index) eachRoute(f func(ref world.ObjectRef, created int64, parents []world.RouteParent)) {
	each := func(ref world.ObjectRef, created int64, parents []world.RouteParent) {
		if ref.Cluster == x.config.LocalCluster {
			f(ref, created, parents)
		}
	}
	for _, r := range x.state.HTTPRoutes {
		each(r.Ref(), r.Created, r.Parents)
	}
	for _, r := range x.state.GRPCRoutes {
		each(r.Ref(), r.Created, r.Parents)
	}
	for _, r := range x.state.TLSRoutes {
		each(r.Ref(), r.Created, r.Parents)
	}
	for _, r := range x.state.TCPRoutes {
		each(r.Ref(), r.Created, r.Parents)
	}
	for _, r := range x.state.UDPRoutes {
		each(r.Ref(), r.Created, r.Parents)
	}
}

// looksOf is at how many listeners of a gate a route is looked for by one of its parents.
func (g *gate) looksOf(ref world.ObjectRef, p world.RouteParent) int {
	if p.Section != "" {
		return 1 // its name is all that is compared with others
	}
	of := g.homes[world.ObjectRef{Kind: world.Kind(p.Kind), Key: ref.In(p.Namespace, p.Name)}]
	return of.to - of.from
}

// boundLooks finds the routes that are not looked for at a gate, as those of their namespace would be at more listeners than x.maxLooks: its youngest. No namespace takes anything
// from another one.
func (x *index) boundLooks(gates map[world.Key]*gate) {
	type tenant struct {
		gate      *gate
		namespace string
	}
	sums, crowded := map[tenant]int{}, map[tenant][]look{}
	x.eachRoute(func(ref world.ObjectRef, _ int64, parents []world.RouteParent) {
		for _, p := range parents {
			if g := x.gateOf(ref, p, gates); g != nil {
				sums[tenant{g, ref.Namespace}] += g.looksOf(ref, p)
			}
		}
	})
	for t, sum := range sums {
		if sum > x.maxLooks {
			crowded[t] = nil
		}
	}
	if len(crowded) == 0 {
		return
	}
	x.eachRoute(func(ref world.ObjectRef, created int64, parents []world.RouteParent) {
		for _, p := range parents {
			g := x.gateOf(ref, p, gates)
			t := tenant{g, ref.Namespace}
			all, is := crowded[t]
			if !is {
				continue
			}
			if n := len(all); n == 0 || all[n-1].ref != ref {
				all = append(all, look{ref: ref, created: created})
			}
			all[len(all)-1].listeners += g.looksOf(ref, p)
			crowded[t] = all
		}
	})
	for t, all := range crowded {
		g := t.gate
		slices.SortFunc(all, func(a, b look) int { return cmp.Or(cmp.Compare(a.created, b.created), a.ref.Compare(b.ref)) })
		why := fmt.Sprintf("the routes of namespace %s would be looked for at more than %d listeners of Gateway %s/%s, each route at all that its parents have there and match by no sectionName: the oldest are, which this one is not among",
			t.namespace, x.maxLooks, g.gateway.Namespace, g.gateway.Name)
		if g.unlooked == nil {
			g.unlooked = map[world.ObjectRef]string{}
		}
		sum := 0
		for _, l := range all {
			if sum+l.listeners > x.maxLooks {
				g.unlooked[l.ref] = why
				continue
			}
			sum += l.listeners
		}
	}
}
