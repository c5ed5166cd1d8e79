// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxFarEntries is how many entries of ServiceScopes are asked about each service of another cluster; an object without any counts as one. Clusters have a handful. Those beyond are
// not in force: as the first entry that matches decides, what none of those before matches is local, so leaving them out never shares more.
const maxFarEntries = 256

// foldScope takes in another ServiceScope of a cluster, and notes the services about which it may decide.
func (x *index) foldScope(c world.Cluster, was, now *world.ServiceScope, t *touched) {
	before := x.inForce[c]
	if was != nil {
		if i, ok := slices.BinarySearchFunc(x.rules[c], rules{scope: was}, byPriority); ok {
			x.rules[c] = slices.Delete(x.rules[c], i, i+1)
		}
	}
	if now != nil {
		i, _ := slices.BinarySearchFunc(x.rules[c], rules{scope: now}, byPriority)
		x.rules[c] = slices.Insert(x.rules[c], i, rules{scope: now})
	}
	if len(x.rules[c]) == 0 {
		delete(x.rules, c)
		delete(x.inForce, c)
	} else {
		x.inForce[c] = slices.Clone(x.asked(c)) // its own: what was in force before is still looked at
	}
	others := different(before, x.inForce[c])
	x.decidedBy(others, c, t)
	if c != x.config.LocalCluster {
		t.clusters.add(c)
		return
	}
	for _, s := range []*world.ServiceScope{was, now} {
		if s != nil {
			t.scopes.add(s.Key)
		}
	}
}

// asked are the rules of a cluster that may decide: all of our own one's, and the first of another's.
func (x *index) asked(c world.Cluster) []rules {
	all, entries := x.rules[c], 0
	for i, r := range all {
		if entries += max(1, len(r.scope.Entries)); entries > maxFarEntries && c != x.config.LocalCluster {
			return all[:i]
		}
		if !r.checked {
			all[i] = compile(r.scope)
		}
	}
	return all
}

// different are the rules that only one of two lists has.
func different(a, b []rules) []rules {
	in := func(list []rules) set[*world.ServiceScope] {
		out := make(set[*world.ServiceScope], len(list))
		for _, r := range list {
			out.add(r.scope)
		}
		return out
	}
	inA, inB := in(a), in(b)
	var out []rules
	for _, r := range a {
		if !inB.has(r.scope) {
			out = append(out, r)
		}
	}
	for _, r := range b {
		if !inA.has(r.scope) {
			out = append(out, r)
		}
	}
	return out
}

// decidedBy notes the services about which rules of a cluster have anything to say. Of others no decision changes when these rules come or go.
func (x *index) decidedBy(some []rules, c world.Cluster, t *touched) {
	if len(some) == 0 {
		return
	}
	matches := func(s *world.Service, namespace map[string]string) bool {
		x.looked++
		return decide(some, s.Labels, namespace).verdict != unmatched
	}
	for n := range x.namesOf[c] {
		if s := x.state.Services[n.in(c)]; matches(s, x.namespaceLabels(c, n.Namespace)) {
			t.names.add(n)
		}
	}
	if c != x.config.LocalCluster {
		return
	}
	for other, names := range x.namesOf { // it may carve out of imports
		if other == c {
			continue
		}
		for n := range names {
			s := x.state.Services[n.in(other)]
			if matches(s, x.namespaceLabels(other, n.Namespace)) || matches(s, x.namespaceLabels(c, n.Namespace)) {
				t.names.add(n)
			}
		}
	}
}
