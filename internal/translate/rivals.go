// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// routeConflicted is the reason on a route that another kind's route keeps from every listener that it could have. The API asks for
// Accepted=False and names no reason.
const routeConflicted = "Conflicted"

// rivals are the routes that lost each listener of a gate: a host at a listener has HTTPRoutes or GRPCRoutes, never both. nil: none.
type rivals []map[world.ObjectRef]world.ObjectRef // by listener: loser → winner

// contender is a route that fits a listener.
type contender struct {
	ref       world.ObjectRef
	created   int64
	hostnames []string // in common with the listener; none: every one
}

// settleRivals finds, at each listener that both kinds of route fit, whom the older routes of the other kind keep out. Those that are left out as they are too many keep nobody out.
func (x *index) settleRivals(gates map[world.Key]*gate) {
	fields := map[*gate][][]contender{}
	enter := func(ref world.ObjectRef, r *world.HTTPRoute) {
		if ref.Cluster != x.config.LocalCluster {
			return
		}
		if c := x.compileRoute(ref); c.left == 0 && c.dropped.reason != "" {
			return // it is not accepted anyway
		}
		for i, p := range r.Parents {
			g := x.gateOf(ref, p, gates)
			if g == nil || slices.Contains(r.Parents[:i], p) {
				continue
			}
			if _, is := g.tooMany[ref]; is {
				continue
			}
			at, _, _ := x.fitting(ref, r.Hostnames, p, g)
			if len(at) > 0 && fields[g] == nil {
				fields[g] = make([][]contender, len(g.verdicts))
			}
			for _, l := range at {
				fields[g][l] = append(fields[g][l], contender{ref, r.Created, common(g.verdicts[l].listener.Hostname, r.Hostnames)})
			}
		}
	}
	for _, r := range x.state.GRPCRoutes {
		enter(r.Ref(), &r.HTTPRoute)
	}
	if len(fields) == 0 {
		return
	}
	for _, r := range x.state.HTTPRoutes {
		if slices.ContainsFunc(r.Parents, func(p world.RouteParent) bool { return fields[x.gateOf(r.Ref(), p, gates)] != nil }) {
			enter(r.Ref(), r)
		}
	}
	for g, field := range fields {
		g.rivals = make(rivals, len(field))
		for l := range field {
			g.rivals[l] = settle(field[l])
		}
	}
}

// settle goes through a listener's routes by age, and then by name. Who has a hostname in common with one of the other kind that is in is out.
func settle(field []contender) map[world.ObjectRef]world.ObjectRef {
	slices.SortFunc(field, func(a, b contender) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.ref.Namespace, b.ref.Namespace), strings.Compare(a.ref.Name, b.ref.Name), cmp.Compare(a.ref.Kind, b.ref.Kind))
	})
	taken := map[world.Kind]*hostOwners{world.KindHTTPRoute: newHostOwners(), world.KindGRPCRoute: newHostOwners()}
	out := map[world.ObjectRef]world.ObjectRef{}
	for _, c := range field {
		other := world.KindHTTPRoute
		if c.ref.Kind == other {
			other = world.KindGRPCRoute
		}
		if winner, ok := taken[other].first(c.hostnames); ok {
			out[c.ref] = winner
			continue
		}
		taken[c.ref.Kind].take(c.hostnames, c.ref)
	}
	return out
}

// withoutRivals leaves out the listeners that a route lost; lost says to whom.
func (g *gate) withoutRivals(ref world.ObjectRef, at []int) (left []int, lost string) {
	if g.rivals == nil {
		return at, ""
	}
	for _, i := range at {
		winner, ok := g.rivals[i][ref]
		if !ok {
			left = append(left, i)
			continue
		}
		if lost == "" {
			lost = fmt.Sprintf("%s %s/%s, which is older or comes first by name, has a hostname of listener %s in common with it; a hostname is for HTTPRoutes or for GRPCRoutes",
				winner.Kind, winner.Namespace, winner.Name, g.verdicts[i].name())
		}
	}
	return left, lost
}

// hostOwners say which route took a hostname first.
type hostOwners struct {
	exact, wild map[string]world.ObjectRef // wild by what follows the star
	under       map[string]world.ObjectRef // a suffix of names that were taken, wildcards among them
	some, every *world.ObjectRef
}

func newHostOwners() *hostOwners {
	return &hostOwners{exact: map[string]world.ObjectRef{}, wild: map[string]world.ObjectRef{}, under: map[string]world.ObjectRef{}}
}

// take notes hostnames of a route; none are all.
func (o *hostOwners) take(hostnames []string, by world.ObjectRef) {
	if o.some == nil {
		o.some = &by
	}
	if len(hostnames) == 0 && o.every == nil {
		o.every = &by
	}
	for _, h := range hostnames {
		if suffix, ok := strings.CutPrefix(h, "*"); ok {
			firstOf(o.wild, suffix, by)
			h = suffix[1:]
		} else {
			firstOf(o.exact, h, by)
		}
		for suffix := range suffixes(h) {
			firstOf(o.under, suffix, by)
		}
	}
}

// first is a route that has a hostname in common with these.
func (o *hostOwners) first(hostnames []string) (world.ObjectRef, bool) {
	if o.every != nil {
		return *o.every, true
	}
	if len(hostnames) == 0 && o.some != nil {
		return *o.some, true
	}
	for _, h := range hostnames {
		suffix, wild := strings.CutPrefix(h, "*")
		if wild {
			for _, known := range []map[string]world.ObjectRef{o.wild, o.under} {
				if by, ok := known[suffix]; ok {
					return by, true
				}
			}
			h = suffix[1:]
		} else if by, ok := o.exact[h]; ok {
			return by, true
		}
		for suffix := range suffixes(h) {
			if by, ok := o.wild[suffix]; ok {
				return by, true
			}
		}
	}
	return world.ObjectRef{}, false
}

func firstOf(m map[string]world.ObjectRef, name string, by world.ObjectRef) {
	if _, ok := m[name]; !ok {
		m[name] = by
	}
}

// suffixes are what follows each label of a name but the last, as wildcards are kept: ".b.c" and ".c" of "a.b.c".
func suffixes(name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range len(name) {
			if i > 0 && name[i] == '.' && !yield(name[i:]) {
				return
			}
		}
	}
}
