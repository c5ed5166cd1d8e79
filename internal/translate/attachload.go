// SPDX-License-Identifier: Apache-2.0

package translate

import (
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

// load is what an applicant takes at a gate where it fits: once, and at its listeners.
func (a *applicant) load(f *fit) (once, each int) {
	switch a.ref.Kind {
	case world.KindTLSRoute: // if it has all names there that it would have
		size := (&mesh.TLSRoute{Namespace: a.ref.Namespace, Name: a.ref.Name, Backends: a.backends}).Size()
		return 0, size*len(f.at) + f.names
	case world.KindTCPRoute, world.KindUDPRoute:
		return 0, a.stream.Size() * len(f.at)
	default:
		return a.compiled.weight(), a.compiled.route.AtListeners(len(f.at), f.common)
	}
}

// unburden finds the routes that are left out at gates where all of them are too large: each namespace of routes has a share, which those that want less leave to others, and in it
// the oldest count. What those want counts, too, that rivals keep out: they are in their places as soon as the rivals are left out.
func (x *index) unburden(gates map[world.Key]*gate, all []*applicant) {
	for _, a := range all {
		for i := range a.fits {
			f := &a.fits[i]
			s := &a.stays[f.stay]
			if s.unlooked != "" {
				continue
			}
			if x.find(a, f); len(f.at) == 0 || a.void() {
				continue
			}
			once, each := a.load(f)
			if s.load == 0 {
				s.load += once
			}
			s.load += each
		}
		for i := range a.stays {
			a.stays[i].gate.load += a.stays[i].load
		}
	}
	for _, g := range gates {
		if g.load > x.maxRoutes {
			x.leaveOut(g, all)
		}
	}
}

// leaveOut divides what the routes of a gate may take by namespace, and says of those that are beyond its share that they are.
func (x *index) leaveOut(g *gate, all []*applicant) {
	each := func(f func(namespace string, s *stay)) {
		for _, a := range all {
			for i := range a.stays {
				if s := &a.stays[i]; s.gate == g && s.load > 0 {
					f(a.ref.Namespace, s)
				}
			}
		}
	}
	sums := map[string]int{}
	each(func(namespace string, s *stay) { sums[namespace] += s.load })
	share := fairShare(slices.Collect(maps.Values(sums)), x.maxRoutes)
	taken, why := map[string]int{}, map[string]string{}
	each(func(namespace string, s *stay) {
		if taken[namespace]+s.load <= share {
			taken[namespace] += s.load
			return
		}
		if why[namespace] == "" {
			why[namespace] = fmt.Sprintf("the routes at Gateway %s/%s are more than %d MiB, with what each takes at each listener, and those of namespace %s more than its share: its oldest are served, which this one is not among",
				g.gateway.Namespace, g.gateway.Name, maxGatewayRoutes>>20, namespace)
		}
		s.tooMany = why[namespace]
	})
}
