// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// routeConflicted is the reason on a route that another kind's route keeps from every listener that it could have. The API asks for
// Accepted=False and names no reason.
const routeConflicted = "Conflicted"

// rivals are the routes that lost each listener of a gate: a host at a listener has HTTPRoutes or GRPCRoutes, never both. nil: none.
type rivals []map[*applicant]*applicant // by listener: loser → winner

// contender is a route that fits a listener.
type contender struct {
	*applicant
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
	var contested []*gate
	each(world.KindGRPCRoute, func(_ *applicant, g *gate, listener int) {
		if g.fields == nil {
			g.fields = make([][]contender, len(g.verdicts))
			contested = append(contested, g)
		}
		if g.fields[listener] == nil {
			g.fields[listener] = []contender{}
		}
	})
	if len(contested) == 0 {
		return
	}
	each("", func(a *applicant, g *gate, listener int) {
		if g.fields != nil && g.fields[listener] != nil {
			g.fields[listener] = append(g.fields[listener], contender{a, common(g.verdicts[listener].listener.Hostname, a.hostnames)})
		}
	})
	for _, g := range contested {
		g.rivals = make(rivals, len(g.fields))
		for l, field := range g.fields {
			g.rivals[l] = settle(field)
		}
	}
}

// settle goes through a listener's routes, which are in order: by age, and then by name. Who has a hostname in common with one of the other kind that is in is out.
func settle(field []contender) map[*applicant]*applicant {
	if !slices.ContainsFunc(field, func(c contender) bool { return c.ref.Kind != field[0].ref.Kind }) {
		return nil
	}
	taken := map[world.Kind]*hostOwners{world.KindHTTPRoute: newHostOwners(), world.KindGRPCRoute: newHostOwners()}
	out := map[*applicant]*applicant{}
	for _, c := range field {
		other := world.KindHTTPRoute
		if c.ref.Kind == other {
			other = world.KindGRPCRoute
		}
		if winner, ok := taken[other].first(c.hostnames); ok {
			out[c.applicant] = winner
			continue
		}
		taken[c.ref.Kind].take(c.hostnames, c.applicant)
	}
	return out
}

// withoutRivals leaves out the listeners that a route lost; lost says to whom.
func (g *gate) withoutRivals(a *applicant, at []int) (left []int, lost string) {
	if g.rivals == nil {
		return at, ""
	}
	for _, i := range at {
		winner, ok := g.rivals[i][a]
		if !ok {
			left = append(left, i)
			continue
		}
		if lost == "" {
			lost = fmt.Sprintf("%s %s/%s, which is older or comes first by name, has a hostname of listener %s in common with it; a hostname is for HTTPRoutes or for GRPCRoutes",
				winner.ref.Kind, winner.ref.Namespace, winner.ref.Name, g.verdicts[i].name())
		}
	}
	return left, lost
}

// hostOwners say which route took a hostname first.
type hostOwners struct {
	exact, wild map[string]*applicant // wild by what follows the star
	under       map[string]*applicant // a suffix of names that were taken, wildcards among them
	some, every *applicant
}

func newHostOwners() *hostOwners {
	return &hostOwners{exact: map[string]*applicant{}, wild: map[string]*applicant{}, under: map[string]*applicant{}}
}

// take notes hostnames of a route; none are all.
func (o *hostOwners) take(hostnames []string, by *applicant) {
	if o.some == nil {
		o.some = by
	}
	if len(hostnames) == 0 && o.every == nil {
		o.every = by
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
func (o *hostOwners) first(hostnames []string) (*applicant, bool) {
	if o.every != nil {
		return o.every, true
	}
	if len(hostnames) == 0 && o.some != nil {
		return o.some, true
	}
	for _, h := range hostnames {
		suffix, wild := strings.CutPrefix(h, "*")
		if wild {
			for _, known := range []map[string]*applicant{o.wild, o.under} {
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
	return nil, false
}

func firstOf(m map[string]*applicant, name string, by *applicant) {
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
