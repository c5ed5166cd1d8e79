// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// exporterMark is how many characters stand for one cluster in lease.By: the first of its clusterMark. Two clusters of the same ones are kept apart nowhere but there,
	// and an address is kept for longer then.
	exporterMark = 4
	// maxExporters is how many clusters lease.By names, so that a lease stays small. Of a service that more have, anyone may.
	maxExporters = 8
	anyone       = "*"
)

// giving is what addresses are given out by.
type giving struct {
	// want are the services that need an address, and the clusters that have each, in order.
	want map[mesh.ServiceKey][]world.Cluster
	// unheard are the linked clusters, as in lease.By, of which it is not known what they have. What one of them had it may have still.
	unheard map[string]bool
	// budget bounds the writing that clusters can cause; nil: nothing does.
	budget *vipBudget
	now    time.Time
}

// given is what became of it.
type given struct {
	leases leases
	// next is when there may be more to do though nothing changes, zero if never.
	next time.Time
	// kept says that something is kept only because a cluster is not heard of.
	kept bool
	// unserved are services, by cluster, for which no address is left; waiting are those whose turn to be written has not come yet.
	unserved, waiting map[world.Cluster]int
}

// to gives every wanted service an address, keeps those that have one, marks as released those that nobody has any more, and forgets what rested long enough. It starts
// where a service's name hashes to, so that addresses seldom differ after a ConfigMap was lost.
//
// No cluster is given more than vipMost, nor more than are left for the others, those that rest included: one that has ever new services uses up its own share, and
// half of what is left is always there for the next.
func (g giving) to(l leases) given {
	out := given{leases: leases{}, unserved: map[world.Cluster]int{}, waiting: map[world.Cluster]int{}}
	held := map[string]int{}
	var used [1 << 16]bool
	later := func(at time.Time) {
		if out.next.IsZero() || at.Before(out.next) {
			out.next = at
		}
	}
	for _, k := range inOrder(l) {
		before := l[k]
		after, there := g.keep(k, before, &out)
		if (!there || after != before) && !g.budget.spend(g.causes(k, before, after), shardOf(before.V4), g.now) {
			after, there = before, true
			later(g.budget.next(g.now))
		}
		if !there {
			continue
		}
		if after.Released != nil {
			later(after.Released.Add(vipRest))
		}
		out.leases[k] = after
		held[after.Of]++
		used[vipIndex(after.V4)] = true
	}
	for _, k := range inOrder(g.want) {
		if _, has := out.leases[k]; has {
			continue
		}
		of := g.want[k]
		mark := clusterMark(of[0])
		index, ok := uint16(0), held[mark] < min(vipMost, vipCount-len(out.leases))
		if ok {
			index, ok = freeVIP(k, &used)
		}
		if !ok {
			out.unserved[of[0]]++
			continue
		}
		v4 := vipAt(vipRange, index)
		if !g.budget.spend([]string{mark[:exporterMark]}, shardOf(v4), g.now) {
			out.waiting[of[0]]++
			later(g.budget.next(g.now))
			continue
		}
		held[mark]++
		used[index] = true
		out.leases[k] = lease{Namespace: k.Namespace, V4: v4, V6: vipAt(vipRange6, index), Of: mark, By: g.exporters(k, "")}
	}
	return out
}

// keep says what becomes of a lease; false if it is forgotten.
func (g giving) keep(k mesh.ServiceKey, v lease, out *given) (lease, bool) {
	of, wanted := g.want[k]
	switch {
	case wanted:
		v.Released, v.By = nil, g.exporters(k, g.named(v.By))
		if len(of) > 0 && (v.Of == "" || v.By != anyone && !slices.Contains(exportersIn(v.By), v.Of[:min(exporterMark, len(v.Of))])) {
			v.Of = clusterMark(of[0]) // an address is of the share of one who has the service, not of one who had it
		}
	case v.Released != nil && v.Released.Sub(g.now) > clockSlack: // by a leader whose clock was ahead: it would rest, and be of a cluster's share, until then
		v.Released = g.released()
	case v.Released != nil:
		return v, g.now.Sub(*v.Released) < vipRest
	case g.mayHave(v.By):
		v.By = g.named(v.By)
		out.kept = true
	default:
		v.Released = g.released()
	}
	return v, true
}

// released is what is written of an address that is released now.
func (g giving) released() *time.Time {
	at := g.now.UTC().Truncate(time.Second)
	return &at
}

// named is lease.By of an address that somebody had. Written when leases did not say, it may be any cluster's that is not heard of, and no other's: of those that are
// heard of it is known what they have.
func (g giving) named(by string) string {
	switch {
	case by != "":
		return by
	case len(g.unheard) > maxExporters:
		return anyone
	}
	return strings.Join(slices.Sorted(maps.Keys(g.unheard)), "")
}

// exporters gives lease.By of a service that is wanted: who has it, and who of those that had it before is not heard of.
func (g giving) exporters(k mesh.ServiceKey, before string) string {
	if before == anyone && len(g.unheard) > 0 {
		return anyone
	}
	marks := map[string]bool{}
	for _, c := range g.want[k] {
		marks[clusterMark(c)[:exporterMark]] = true
	}
	for _, m := range exportersIn(before) {
		if g.unheard[m] {
			marks[m] = true
		}
	}
	if len(marks) > maxExporters {
		return anyone
	}
	return strings.Join(slices.Sorted(maps.Keys(marks)), "")
}

// mayHave says whether one of those in lease.By is not heard of.
func (g giving) mayHave(by string) bool {
	if by == anyone || by == "" {
		return len(g.unheard) > 0
	}
	return slices.ContainsFunc(exportersIn(by), func(m string) bool { return g.unheard[m] })
}

// causes are the clusters, as in lease.By, because of which a lease changes.
func (g giving) causes(k mesh.ServiceKey, before, after lease) []string {
	if before.By == after.By || before.Released != after.Released || before.Of == "" {
		if of := g.want[k]; len(of) > 0 {
			return []string{clusterMark(of[0])[:exporterMark]}
		}
		return []string{before.Of[:min(exporterMark, len(before.Of))]}
	}
	was, is := exportersIn(before.By), exportersIn(after.By)
	var differ []string
	for _, m := range append(was, is...) {
		if slices.Contains(was, m) != slices.Contains(is, m) {
			differ = append(differ, m)
		}
	}
	return differ
}

func exportersIn(by string) (marks []string) {
	if by == anyone {
		return nil
	}
	for ; len(by) >= exporterMark; by = by[exporterMark:] {
		marks = append(marks, by[:exporterMark])
	}
	return marks
}

func inOrder[V any](m map[mesh.ServiceKey]V) []mesh.ServiceKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b mesh.ServiceKey) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Hostname, b.Hostname))
	})
}

// unheardNow are the clusters, as in lease.By, that were not heard of all the time between two looks.
func unheardNow(before, after map[world.Cluster]heard) map[string]bool {
	unheard := map[string]bool{}
	for c, h := range after {
		if was, linked := before[c]; !h.all || !linked || was != h {
			unheard[clusterMark(c)[:exporterMark]] = true
		}
	}
	return unheard
}
