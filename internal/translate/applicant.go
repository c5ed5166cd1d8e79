// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// applicant is a route of our own cluster that wants to attach somewhere. All are looked at for a change of one, and there may be thousands with dozens of parents each: what is found
// about one is remembered until it changes, or what it depends on does.
type applicant struct {
	ref                 world.ObjectRef
	created, generation int64
	hostnames           []string
	parents             []world.RouteParent

	grounds int    // the number of those for which the following are known; -1: they are not
	stays   []stay // by Gateway of ours that is among the parents, or whose ListenerSet is
	fits    []fit  // by parent that is one of these, in their order, each once

	said       []said       // about each parent
	atServices servicesSaid // about all of those that are Services
	told       [][]Finding  // what all is put together from, and that; of the last time
	all        []Finding

	// Of the translation that runs.
	compiled *compiledRoute       // of an HTTPRoute or a GRPCRoute
	backends []mesh.StreamBackend // of the others
	refs     trouble              // theirs
	stream   *mesh.StreamRoute    // of a TCPRoute or a UDPRoute
}

// stay is a route at one Gateway, with all of its parents there.
type stay struct {
	gateway world.Key
	looks   int // the listeners that it is looked for at

	// Of the translation that runs.
	gate              *gate
	load              int    // about what the route takes there, and on the wire never less
	unlooked, tooMany string // why it is not looked for, and why it is not served though it fits
}

// fit is what a route finds at one of its parents.
type fit struct {
	parent int // its number
	stay   int // at which of the applicant's it is
	known  bool
	at     []int // listeners that the route attaches to
	common int   // hostnames that it has in common with each of these, all together
	names  int   // bytes that those of a TLSRoute are

	reason, message string // why there are none
}

// ground is what the fits of routes at one Gateway depend on, but for the routes and the labels of their namespaces: who changes it makes another object.
type ground struct {
	gateway *world.Gateway
	sets    []*world.ListenerSet
}

// applicants are the routes of our own cluster by precedence: the oldest first, then by name. Nobody knows yet what they fit.
func (x *index) applicants(gates map[world.Key]*gate) []*applicant {
	x.settleGrounds(gates)
	out := make([]*applicant, 0, len(x.applied))
	add := func(ref world.ObjectRef, created, generation int64, hostnames []string, parents []world.RouteParent) *applicant {
		if ref.Cluster != x.config.LocalCluster {
			return nil
		}
		a := x.applied[ref]
		if a == nil {
			a = &applicant{ref: ref, created: created, generation: generation, hostnames: hostnames, parents: parents, grounds: -1, said: make([]said, len(parents))}
			x.applied[ref] = a
		}
		out = append(out, a)
		if x.place(a, gates); len(a.fits) == 0 {
			return nil // nobody asks what it means at Gateways
		}
		return a
	}
	for _, r := range x.state.HTTPRoutes {
		if a := add(r.Ref(), r.Created, r.Generation, r.Hostnames, r.Parents); a != nil {
			a.compiled = x.compileRoute(a.ref)
		}
	}
	for _, r := range x.state.GRPCRoutes {
		if a := add(r.Ref(), r.Created, r.Generation, r.Hostnames, r.Parents); a != nil {
			a.compiled = x.compileRoute(a.ref)
		}
	}
	for _, r := range x.state.TLSRoutes {
		if a := add(r.Ref(), r.Created, r.Generation, r.Hostnames, r.Parents); a != nil {
			a.backends, a.refs = x.streamBackends(a.ref, tlsRules(r))
		}
	}
	for _, r := range x.state.TCPRoutes {
		if a := add(r.Ref(), r.Created, r.Generation, nil, r.Parents); a != nil {
			x.streamOf(a, r.Rules)
		}
	}
	for _, r := range x.state.UDPRoutes {
		if a := add(r.Ref(), r.Created, r.Generation, nil, r.Parents); a != nil {
			x.streamOf(a, r.Rules)
		}
	}
	slices.SortFunc(out, compareApplicants)
	return out
}

func compareApplicants(a, b *applicant) int {
	// Not in one expression, which would compare all of them for each pair of thousands.
	if c := cmp.Compare(a.created, b.created); c != 0 {
		return c
	}
	if c := comparePaths(a.ref.Namespace, a.ref.Name, b.ref.Namespace, b.ref.Name); c != 0 {
		return c
	}
	return cmp.Compare(a.ref.Kind, b.ref.Kind)
}

// settleGrounds forgets all fits if the listeners of any Gateway are others than last time.
func (x *index) settleGrounds(gates map[world.Key]*gate) {
	now := make(map[world.Key]ground, len(gates))
	for k, g := range gates {
		now[k] = ground{g.gateway, g.by.sets}
	}
	if !maps.EqualFunc(x.grounds, now, func(a, b ground) bool { return a.gateway == b.gateway && slices.Equal(a.sets, b.sets) }) {
		x.grounds = now
		x.forgetFits()
	}
}

// forgetFits has all fits found anew.
func (x *index) forgetFits() { x.groundsSeen++ }

// place finds at which Gateways an applicant is.
func (x *index) place(a *applicant, gates map[world.Key]*gate) {
	if a.grounds != x.groundsSeen {
		a.grounds, a.stays, a.fits = x.groundsSeen, nil, nil
		for i, p := range a.parents {
			g := x.gateOf(a.ref, p, gates)
			if g == nil || slices.Contains(a.parents[:i], p) {
				continue
			}
			at := slices.IndexFunc(a.stays, func(s stay) bool { return s.gateway == g.gateway.Key })
			if at < 0 {
				at = len(a.stays)
				a.stays = append(a.stays, stay{gateway: g.gateway.Key})
			}
			a.stays[at].looks += g.looksOf(a.ref, p)
			a.fits = append(a.fits, fit{parent: i, stay: at})
		}
	}
	for i := range a.stays {
		s := &a.stays[i]
		*s = stay{gateway: s.gateway, looks: s.looks, gate: gates[s.gateway]}
	}
}

// find finds what an applicant fits at a parent where it is looked for.
func (x *index) find(a *applicant, f *fit) {
	if f.known {
		return
	}
	g := a.stays[f.stay].gate
	f.known = true
	f.at, f.reason, f.message = x.fitting(a.ref, a.hostnames, a.parents[f.parent], g)
	for _, i := range f.at {
		hostname := g.verdicts[i].listener.Hostname
		if f.common += mesh.HostnamesInCommon(hostname, a.hostnames); a.ref.Kind == world.KindTLSRoute {
			for both := range claimedNames(hostname, a.hostnames) {
				f.names += aroundName + len(both)
			}
		}
	}
}

// void says whether nothing is left of an applicant.
func (a *applicant) void() bool { return a.compiled != nil && a.compiled.void() }
