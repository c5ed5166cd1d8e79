// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// health works out again what follows from the health of other clusters' pods, which is what changes most. It leaves the rest of the
// answers as they are: who offers a service, who the pods are and what is merged do not depend on it. Services that were worked out
// anyway are passed over.
func (r *revision) health() {
	for k := range r.t.health {
		n := nameOf(k)
		if a := r.e.answers[n]; a != nil && !r.t.names.has(n) {
			if was, ok := a.taken[k.Cluster]; ok {
				r.reweigh(n, k.Cluster, a, was)
			}
		}
	}
}

// reweigh puts the healthy pods that a cluster now has for a service into the engine's own answer.
func (r *revision) reweigh(n serviceName, c world.Cluster, a *answer, was int) {
	x, sums := r.e.x, r.e.sums
	healthy := x.pods(c, n).healthy
	if healthy == was {
		return
	}
	a.taken[c] = healthy
	sums.remotes[c].endpoints += healthy - was
	r.remotes.add(c)
	if x.here(c) {
		return // its pods are told one by one
	}
	network, _ := x.network(c)
	var there []*world.Service // all that the network has of the service
	for other := range a.taken {
		if in, _ := x.network(other); in == network {
			there = append(there, x.state.Services[n.in(other)])
		}
	}
	now := x.splitHorizon(n, a.service, there)
	for uid, w := range a.remote {
		if w.Network == network && now[uid] == nil {
			delete(a.remote, uid)
			r.workload(uid, nil)
		}
	}
	for uid, w := range now {
		a.remote[uid] = w
		r.workload(uid, w)
	}
}
