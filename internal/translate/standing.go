// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

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
	for slice := range x.slicesOf.of(service) {
		for _, ep := range x.state.EndpointSlices[slice].Endpoints {
			if ep.Pod == "" {
				if ep.Ready && fits(nil) {
					return true
				}
			} else if p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]; p != nil && healthy(p) && fits(p) {
				return true
			}
		}
	}
	return false
}

// gatewayLocality is where a Gateway's pods are that take connections, as far as they agree: it stands for where the pods behind the gateway
// are, so that of two other networks the nearer one can be preferred.
func (x *index) gatewayLocality(gateway world.Key) mesh.Locality {
	var out mesh.Locality
	first := true
	gateway = x.frontOf(gateway)
	for slice := range x.slicesOf.of(gateway) {
		for _, ep := range x.state.EndpointSlices[slice].Endpoints {
			p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]
			if ep.Pod == "" || p == nil || !healthy(p) {
				continue
			}
			at := x.locality(slice.In("", p.Node))
			switch {
			case first:
				out, first = at, false
			case at.Region != out.Region:
				return mesh.Locality{}
			case at.Zone != out.Zone:
				out.Zone, out.Subzone = "", ""
			case at.Subzone != out.Subzone:
				out.Subzone = ""
			}
		}
	}
	return out
}

// gatewayAccount is the service account that peers of a Gateway are to find there: the one that the Gateway names, unless all of its pods that take connections still have another one. They
// go on with that until the first pod of the new account is ready, which is never if there is no such account.
func (x *index) gatewayAccount(g *world.Gateway) string {
	named := cmp.Or(g.ServiceAccount, ResourceName(g.Name))
	found := ""
	for a := range x.answering(g.Key) {
		p := x.state.Pods[a.pod]
		if p == nil || p.ServiceAccount == named || found != "" && found != p.ServiceAccount {
			return named
		}
		found = p.ServiceAccount
	}
	return cmp.Or(found, named)
}

// podParts is what one pod counts for: it can be divided by all numbers up to 16. The pods of a service times those of all gateways of a network, 200,000 each, are far from what an int holds.
const podParts = 720720

// answering is what takes a Gateway's connections: a pod, or an address that is none's.
type answering struct {
	pod     world.Key // of one that is none's: its cluster alone
	address netip.Addr
}

// countBehindDoors settles how many pods take the connections of each door, of which those of a cluster are together. A pod that is behind several doors into a network is divided among them: a
// cluster has no more to take connections with for having several Services or Gateways before it. Gateways of which nobody says who takes their connections have no part in what others of
// their cluster have, as they may well have nobody.
func (x *index) countBehindDoors(doors []door) {
	type side struct {
		world.Cluster
		network string
	}
	type entry struct {
		doors int
		first world.Key // Gateway
	}
	at := func(d door) side { return side{d.gateway.Cluster, d.network} }
	behind := make([]set[answering], len(doors))
	shared := map[side]map[answering]entry{}
	for i, d := range doors {
		if i > 0 && doors[i-1].gateway == d.gateway {
			behind[i] = behind[i-1] // another address of the same
		} else {
			behind[i] = x.answering(d.gateway)
		}
		for a := range behind[i] {
			if shared[at(d)] == nil {
				shared[at(d)] = map[answering]entry{}
			}
			e := shared[at(d)][a]
			if e.doors++; e.doors == 1 {
				e.first = d.gateway
			}
			shared[at(d)][a] = e
		}
	}
	for i := range doors {
		d := &doors[i]
		known := shared[at(*d)]
		d.spare = known != nil
		for a := range behind[i] {
			d.pods += podParts / known[a].doors
			d.spare = d.spare && known[a].first != d.gateway
		}
		d.pods = max(d.pods, 1)
	}
}

// answering finds what takes a Gateway's connections.
func (x *index) answering(gateway world.Key) set[answering] {
	out := set[answering]{}
	gateway = x.frontOf(gateway)
	for slice := range x.slicesOf.of(gateway) {
		for _, ep := range x.state.EndpointSlices[slice].Endpoints {
			if ep.Pod != "" {
				k := slice.In(slice.Namespace, ep.Pod)
				if p := x.state.Pods[k]; p != nil && healthy(p) {
					out.add(answering{pod: k})
				}
			} else if ep.Ready && len(ep.Addresses) > 0 {
				out.add(answering{world.Key{Cluster: gateway.Cluster}, ep.Addresses[0]})
			}
		}
	}
	return out
}

// standingOf notes that the pods behind a Service are others now: if it is a Gateway's, the Gateway may stand or fall by it.
func (t *touched) standingOf(x *index, service world.Key) {
	if len(x.fronts[service]) > 0 {
		t.gateways = true
	}
	if len(x.streams.datagrams[service]) > 0 {
		t.routes = true // gateways are told where its datagrams go
	}
}
