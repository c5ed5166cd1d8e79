// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"

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
// give, as long as nothing but these counts is another.
func (x *index) recount(n serviceName, before *answer, clusters set[world.Cluster]) *answer {
	out := *before
	out.taken = maps.Clone(before.taken)
	networks := set[string]{}
	remotes := make([]*world.Service, 0, len(out.taken))
	for c := range out.taken {
		remotes = append(remotes, x.state.Services[n.in(c)])
	}
	takingPart := x.takingPart(x.state.Services[n.in(x.config.LocalCluster)], remotes)
	for c := range clusters {
		if _, ok := out.taken[c]; ok {
			out.taken[c] = x.pods(c, n).healthy
		} else if c != x.config.LocalCluster {
			continue
		}
		for _, network := range x.networksWith(n, c) {
			networks.add(network)
		}
	}
	definitions := x.byNetwork(n, takingPart)
	maps.DeleteFunc(definitions, func(network string, _ []*world.Service) bool { return !networks.has(network) })
	if len(definitions) == 0 {
		return &out
	}
	out.remote = maps.Clone(before.remote)
	for i := range x.doors {
		if d := &x.doors[i]; definitions[d.network] != nil {
			delete(out.remote, d.splitUID(out.service))
		}
	}
	for network, of := range definitions {
		to := x.waysTo(network, takingPart)
		for i, capacity := range x.weigh(n, out.service.Balance.AllowUnhealthy, to, takingPart) {
			uid := x.doors[i].splitUID(out.service)
			switch w := before.remote[uid]; {
			case w == nil:
				out.remote[uid] = x.splitWorkload(&x.doors[i], out.service, to.behind(&x.doors[i], of), capacity)
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
