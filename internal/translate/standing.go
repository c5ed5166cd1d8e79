// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"iter"
	"math"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxBehind is how many endpoints, and slices of them, of a Service of another cluster are looked at for which of them take a Gateway's connections: for each change of any, and of the Gateways there,
// and another cluster may have 64 Gateways at Services of 100,000 pods each. Those beyond count as if they were not there. A gateway has some pods.
const maxBehind = 1000

// lookedAt are the endpoints behind a Service that are looked at, each with its slice: of our own cluster all, of others the first, by the names of their slices, so that one more moves little.
func (x *index) lookedAt(service world.Key) iter.Seq2[world.Key, *world.Endpoint] {
	return func(yield func(world.Key, *world.Endpoint) bool) {
		all, left := iter.Seq[world.Key](x.slicesOf.of(service)), math.MaxInt
		if m := x.members[service]; m != nil && m.size > x.maxBehind && service.Cluster != x.config.LocalCluster {
			sorted := slices.SortedFunc(all, world.Key.Compare)
			x.looked += len(sorted)
			all, left = slices.Values(sorted), x.maxBehind
		}
		for slice := range all {
			left--
			endpoints := x.state.EndpointSlices[slice].Endpoints
			for i := range endpoints[:max(0, min(len(endpoints), left))] {
				left--
				x.looked++
				if !yield(slice, &endpoints[i]) {
					return
				}
			}
		}
	}
}

// standing says whether a Gateway has a pod that takes connections. A gateway without one keeps its address, and whoever
// still tried it would only lose time. As long as nobody said who answers for its Service (there is no EndpointSlice yet),
// it is taken to stand.
func (x *index) standing(gateway world.Key) bool {
	return x.takesConnections(gateway) || !x.slicesOf.has(x.frontOf(gateway))
}

// takesConnections says whether a Gateway has a pod that is known to take connections.
func (x *index) takesConnections(gateway world.Key) bool {
	return x.behindTakes(x.frontOf(gateway))
}

// behindTakes says whether a Service has a pod, or something else, behind it that is known to take connections.
func (x *index) behindTakes(service world.Key) bool {
	return x.behindHas(service, func(*world.Pod) bool { return true })
}

// behindHas is the same of those that fit; what is no pod is nil.
func (x *index) behindHas(service world.Key, fits func(*world.Pod) bool) bool {
	for slice, ep := range x.lookedAt(service) {
		if ep.Pod == "" {
			if ep.Ready && fits(nil) {
				return true
			}
		} else if p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]; p != nil && healthy(p) && fits(p) {
			return true
		}
	}
	return false
}

// crew is who takes the connections that come by a Service.
type crew struct {
	stands   bool          // somebody does, or nobody said who
	each     []answering   // once
	locality mesh.Locality // of its pods, as far as they agree: it stands for where the pods behind the gateway are, so that of two other networks the nearer one can be preferred
	account  string        // of all of them; "": they are of several, or some are no pods
}

// answering is what takes connections: a pod, or an address that is none's.
type answering struct {
	pod     world.Key // of one that is none's: its cluster alone
	address netip.Addr
}

// crewOf finds who is behind a Service.
func (x *index) crewOf(service world.Key) *crew {
	if !x.slicesOf.has(service) {
		return &crew{stands: true}
	}
	out := &crew{}
	seen, pods, others := set[answering]{}, 0, false
	for slice, ep := range x.lookedAt(service) {
		var a answering
		if ep.Pod == "" {
			if !ep.Ready || len(ep.Addresses) == 0 {
				continue
			}
			a, others = answering{world.Key{Cluster: service.Cluster}, ep.Addresses[0]}, true
		} else {
			a.pod = slice.In(slice.Namespace, ep.Pod)
			p := x.state.Pods[a.pod]
			if p == nil || !healthy(p) {
				continue
			}
			if at := x.locality(slice.In("", p.Node)); pods == 0 {
				out.locality, out.account = at, p.ServiceAccount
			} else {
				out.locality = agreed(out.locality, at)
				others = others || out.account != p.ServiceAccount
			}
			pods++
		}
		if !seen.has(a) {
			seen.add(a)
			out.each = append(out.each, a)
		}
	}
	if others {
		out.account = ""
	}
	out.stands = len(out.each) > 0
	return out
}

// agreed is what two localities have in common.
func agreed(a, b mesh.Locality) mesh.Locality {
	switch {
	case a.Region != b.Region:
		return mesh.Locality{}
	case a.Zone != b.Zone:
		a.Zone, a.Subzone = "", ""
	case a.Subzone != b.Subzone:
		a.Subzone = ""
	}
	return a
}

// accountOf is the service account that peers of a Gateway are to find there: the one that the Gateway names, unless all of its pods that take connections still have another one. They
// go on with that until the first pod of the new account is ready, which is never if there is no such account.
func (c *crew) accountOf(g *world.Gateway) string {
	return cmp.Or(c.account, g.ServiceAccount, ResourceName(g.Name))
}

// podParts is what one pod counts for: it can be divided by all numbers up to 16. The pods of a service times those of all gateways of a network, 200,000 each, are far from what an int holds.
const podParts = 720720

// countCrews settles how many pods take the connections of each door of one cluster. A pod that is behind several doors into a network is divided among them: a
// cluster has no more to take connections with for having several Services or Gateways before it. Gateways of which nobody says who takes their connections have no part in what others of
// their cluster have, as they may well have nobody.
func (x *index) countCrews(in []wayIn) []door {
	type entry struct { // the doors into a network that have one crew
		network string
		crew    *crew
	}
	type part struct {
		doors int
		first *crew // that has it
	}
	type whole struct {
		pods int
		own  bool // some of it no crew before has
	}
	var entries []entry // in the order of their first doors
	doors, gateways := map[entry]int{}, map[entry]world.Key{}
	for _, w := range in {
		e := entry{w.network, w.crew}
		if doors[e]++; doors[e] == 1 {
			entries = append(entries, e)
			gateways[e] = w.gateway
		}
	}
	shared := map[string]map[answering]part{}
	for _, e := range entries {
		for _, a := range e.crew.each {
			x.looked++
			if shared[e.network] == nil {
				shared[e.network] = map[answering]part{}
			}
			p := shared[e.network][a]
			if p.doors += doors[e]; p.first == nil {
				p.first = e.crew
			}
			shared[e.network][a] = p
		}
	}
	wholes := make(map[entry]whole, len(entries))
	for _, e := range entries {
		var w whole
		for _, a := range e.crew.each {
			p := shared[e.network][a]
			w.pods += podParts / p.doors
			w.own = w.own || p.first == e.crew
		}
		wholes[e] = w
	}
	out := make([]door, 0, len(in))
	for _, w := range in {
		e := entry{w.network, w.crew}
		w.pods = max(wholes[e].pods, 1)
		w.spare = shared[e.network] != nil && (!wholes[e].own || gateways[e] != w.gateway)
		out = append(out, w.door)
	}
	return out
}

// standingOf notes that the pods behind a Service are others now: if it is a Gateway's, the Gateway may stand or fall by it.
func (t *touched) standingOf(x *index, service world.Key) {
	t.frontOf(x, service)
	if len(x.streams.datagrams[service]) > 0 {
		t.routes = true // gateways are told where its datagrams go
	}
}

// frontOf notes that a Service is another now for the Gateways that it leads to.
func (t *touched) frontOf(x *index, service world.Key) {
	if len(x.fronts[service]) > 0 {
		t.gatesOf(x, service.Cluster)
	}
}

// gatesOf notes that a cluster's Gateways are others now, or what says where they lead.
func (t *touched) gatesOf(x *index, c world.Cluster) {
	t.doors.add(c)
	t.gateways = t.gateways || c == x.config.LocalCluster
}

// allDoors notes that what says where Gateways lead concerns all clusters.
func (t *touched) allDoors(x *index) {
	for c := range x.gatesIn {
		t.doors.add(c)
	}
}
