// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
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
	hostnames []string // in common with the listener; none: every one
}

// settleRivals finds, at each listener that both kinds of route fit, whom the older routes of the other kind keep out. Those that are left out as they are too many keep nobody out.
func (x *index) settleRivals(all []*applicant) {
	each := func(kind world.Kind, visit func(a *applicant, g *gate, listener int)) {
		for _, a := range all {
			if a.compiled == nil || a.void() || kind != "" && a.ref.Kind != kind {
				continue
			}
			for i := range a.fits {
				if s := &a.stays[a.fits[i].stay]; s.unlooked == "" && s.tooMany == "" {
					for _, l := range a.fits[i].at {
						visit(a, s.gate, l)
					}
				}
			}
		}
	}
	both := map[*gate][]bool{} // listeners that a GRPCRoute fits
	each(world.KindGRPCRoute, func(_ *applicant, g *gate, listener int) {
		if both[g] == nil {
			both[g] = make([]bool, len(g.verdicts))
		}
		both[g][listener] = true
	})
	if len(both) == 0 {
		return
	}
	fields := map[*gate][][]contender{}
	each("", func(a *applicant, g *gate, listener int) {
		if both[g] == nil || !both[g][listener] {
			return
		}
		if fields[g] == nil {
			fields[g] = make([][]contender, len(g.verdicts))
		}
		fields[g][listener] = append(fields[g][listener], contender{a.ref, common(g.verdicts[listener].listener.Hostname, a.hostnames)})
	})
	for g, field := range fields {
		g.rivals = make(rivals, len(field))
		for l := range field {
			g.rivals[l] = settle(field[l])
		}
	}
}

// settle goes through a listener's routes, which are in order: by age, and then by name. Who has a hostname in common with one of the other kind that is in is out.
func settle(field []contender) map[world.ObjectRef]world.ObjectRef {
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
