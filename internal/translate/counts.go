// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// counts works out again what follows from the number of pods behind services, where other networks are told that number.
func (r *revision) counts() {
	e := r.e
	recount := map[serviceName]set[world.Cluster]{}
	for k := range r.t.counts {
		n := nameOf(k)
		if e.answers[n] == nil || e.answers[n].service == nil {
			continue // not told, before and after
		}
		if recount[n] == nil {
			recount[n] = set[world.Cluster]{}
		}
		recount[n].add(k.Cluster)
	}
	for n, clusters := range recount {
		if r.t.names.has(n) {
			continue // looked at altogether
		}
		before := e.answers[n]
		after := e.x.recount(n, before, clusters)
		e.answers[n] = after
		e.sums.count(n, before, -1)
		e.sums.count(n, after, 1)
		for uid := range before.remote {
			if after.remote[uid] == nil {
				r.workload(uid, nil)
			}
		}
		for uid, w := range after.remote {
			if before.remote[uid] != w {
				r.workload(uid, w)
			}
		}
	}
}

// recount gives an answer anew in which only the pods behind some clusters' definitions were counted again. It is what answer would
// give, as long as nothing but these counts is another. Clusters that have nothing on the networks in question are not looked at: that would be most of them.
func (x *index) recount(n serviceName, before *answer, clusters set[world.Cluster]) *answer {
	out := *before
	out.taken = maps.Clone(before.taken)
	local := x.config.LocalCluster
	ours := x.several() && x.takesPartHere(x.state.Services[n.in(local)])
	networks := set[string]{}
	for c := range clusters {
		if _, ok := out.taken[c]; ok {
			out.taken[c] = x.pods(c, n).healthy
		} else if c != local || !ours {
			continue
		}
		for _, network := range x.networksWith(n, c) {
			if x.across(network) {
				networks.add(network)
			}
		}
	}
	if len(networks) == 0 {
		return &out
	}
	takesPart := func(c world.Cluster) bool { _, taken := out.taken[c]; return taken || c == local && ours }
	out.remote = maps.Clone(before.remote)
	for i := range x.doors {
		if d := &x.doors[i]; networks.has(d.network) {
			delete(out.remote, d.splitUID(out.service))
		}
	}
	for network := range networks {
		there := x.partiesOn(network, n, out.taken, ours)
		to := x.waysTo(network, takesPart)
		for i, capacity := range x.weigh(n, out.service.Balance.AllowUnhealthy, to, there) {
			uid := x.doors[i].splitUID(out.service)
			switch w := before.remote[uid]; {
			case w == nil:
				out.remote[uid] = x.splitWorkload(&x.doors[i], out.service, to.behind(&x.doors[i], there), capacity)
			case w.Capacity == uint32(capacity):
				out.remote[uid] = w
			default:
				changed := *w
				changed.Capacity = uint32(capacity)
				out.remote[uid] = &changed
			}
		}
	}
	return &out
}

// partiesOn are the definitions of a service that are on a network, as byNetwork has them, of the remote clusters taken and, if it takes part, our own.
func (x *index) partiesOn(network string, n serviceName, taken map[world.Cluster]int, ours bool) []*world.Service {
	var out []*world.Service
	add := func(c world.Cluster) {
		if x.mayHavePodsOn(c, network) && slices.Contains(x.networksWith(n, c), network) {
			out = append(out, x.state.Services[n.in(c)])
		}
	}
	for c := range taken {
		add(c)
	}
	if ours {
		add(x.config.LocalCluster)
	}
	return out
}
