// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// maxGatewayRoutes is how many bytes the process of one Gateway takes for routes at its listeners: on the wire, and to find HTTPRoutes and GRPCRoutes by their hostnames and paths. With
	// maxListenerLoad it is as much as maxWaypointLoad, which those that have no such listeners are told instead. What is more than is taken in one answer would be refused as a whole, and no
	// later change would be heard of; and one large route at hundreds of listeners would take all memory of a Gateway that namespaces share.
	maxGatewayRoutes = 48 << 20
	// aroundName is what goes with each hostname of a TLSRoute.
	aroundName = 16
)

// routeLoad is what one route takes at a gate.
type routeLoad struct {
	created int64
	once    int // however many listeners it is at
	each    int // at all listeners together
}

// carry notes what a route that attaches takes: once, and at its listeners.
func (g *gate) carry(ref world.ObjectRef, created int64, once, each int) {
	g.load += once + each
	if g.loads == nil {
		return
	}
	l := g.loads[ref]
	if l == nil {
		l = &routeLoad{created: created, once: once}
		g.loads[ref] = l
	}
	l.each += each
}

// beyond is why a route that would attach is left out; no reason, and the message that there was: it is not.
func (g *gate) beyond(ref world.ObjectRef, message string) (reason, why string) {
	if why, is := g.tooMany[ref]; is {
		return ReasonTooMany, why
	}
	return "", message
}

// weight is what a TLSRoute takes at a listener, if it has all names there that it would have.
func (c *claimant) weight() int {
	n := (&mesh.TLSRoute{Namespace: c.namespace, Name: c.name, Backends: c.backends}).Size()
	for _, name := range c.names {
		n += aroundName + len(name.common)
	}
	return n
}

// unburden finds the routes that are left out at gates where all of them are too large: each namespace of routes has a share, which those that want less leave to others, and in it
// the oldest count. If there are any, nothing is attached afterwards. attach attaches all routes once more, to see what each takes.
func (x *index) unburden(gates map[world.Key]*gate, attach func()) bool {
	heavy := false
	for _, g := range gates {
		if g.load > x.maxRoutes {
			heavy, g.loads = true, map[world.ObjectRef]*routeLoad{}
		}
	}
	if !heavy {
		return false
	}
	detach := func() {
		for _, g := range gates {
			g.load = 0
			clear(g.routes)
			clear(g.claims)
			clear(g.streams)
		}
	}
	detach()
	attach()
	detach()
	for _, g := range gates {
		if g.loads != nil {
			g.tooMany = x.leaveOut(g)
			g.loads = nil
		}
	}
	return true
}

// leaveOut divides the routes of a gate by namespace, and says of those that are beyond its share that they are.
func (x *index) leaveOut(g *gate) map[world.ObjectRef]string {
	of, sums := map[string][]world.ObjectRef{}, map[string]int{}
	for ref, l := range g.loads {
		of[ref.Namespace] = append(of[ref.Namespace], ref)
		sums[ref.Namespace] += l.once + l.each
	}
	out := map[world.ObjectRef]string{}
	share := fairShare(slices.Collect(maps.Values(sums)), x.maxRoutes)
	if share == 0 {
		return out
	}
	for namespace, all := range of {
		beyond := fmt.Sprintf("the routes at Gateway %s/%s are more than %d MiB, with what each takes at each listener, and those of namespace %s more than its share: its oldest are served, which this one is not among",
			g.gateway.Namespace, g.gateway.Name, maxGatewayRoutes>>20, namespace)
		slices.SortFunc(all, func(a, b world.ObjectRef) int {
			return cmp.Or(cmp.Compare(g.loads[a].created, g.loads[b].created), a.Compare(b))
		})
		mine := 0
		for _, ref := range all {
			load := g.loads[ref].once + g.loads[ref].each
			if mine+load > share {
				out[ref] = beyond
				continue
			}
			mine += load
		}
	}
	return out
}
