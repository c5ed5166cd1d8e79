// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// splitHorizon is how other networks' pods of a service look from here: one workload per door that leads to them, weighted so
// that all doors of a network together weigh as much as the healthy pods behind it. definitions are those of all clusters that take part. If our own
// cluster has several networks, each of them is another one for the others; proxies leave out what stands for their own.
func (x *index) splitHorizon(n serviceName, service *mesh.Service, definitions []*world.Service) map[string]*mesh.Workload {
	byNetwork := x.byNetwork(n, definitions)
	if len(byNetwork) == 0 {
		return nil
	}
	takesPart := func(c world.Cluster) bool {
		return slices.ContainsFunc(definitions, func(s *world.Service) bool { return s.Cluster == c })
	}
	out := map[string]*mesh.Workload{}
	for network, there := range byNetwork {
		to := x.waysTo(network, takesPart)
		for i, capacity := range x.weigh(n, service.Balance.AllowUnhealthy, to, there) {
			w := x.splitWorkload(&x.doors[i], service, to.behind(&x.doors[i], there), capacity)
			out[w.UID] = w
		}
	}
	return out
}

// byNetwork gives, for each network that is another one for some of our pods, the definitions of clusters that are on it: by default, or with
// pods behind the service.
func (x *index) byNetwork(n serviceName, definitions []*world.Service) map[string][]*world.Service {
	var out map[string][]*world.Service
	for _, s := range definitions {
		for _, network := range x.networksWith(n, s.Cluster) {
			if x.across(network) {
				if out == nil {
					out = map[string][]*world.Service{}
				}
				out[network] = append(out[network], s)
			}
		}
	}
	return out
}

// networksWith are the networks of a cluster that matter for a service: its default one, and those of pods behind the service.
func (x *index) networksWith(n serviceName, c world.Cluster) []string {
	own, _ := x.network(c)
	out := []string{own}
	if x.networks[c] == nil {
		return out // no pod of it says anything
	}
	for p := range x.places(c, n) {
		if !slices.Contains(out, p.network) { // they are few: a cluster's own and those that its limits name
			out = append(out, p.network)
		}
	}
	return out
}

// waysTo are the doors that lead to the pods of some clusters on a network.
type waysTo struct {
	network string
	of      map[world.Cluster][]int // by cluster, which may have none
	first   world.Cluster           // whose doors lead to those of clusters without one
}

// waysTo finds these doors, for a service in which some clusters take part: doors of others do not let in. Pods of clusters without a door of their own are behind those of one cluster, the
// first that is believed: whoever else says to be on that network gets nothing that is meant for them.
func (x *index) waysTo(network string, takesPart func(world.Cluster) bool) waysTo {
	out := waysTo{network: network, of: map[world.Cluster][]int{}}
	for i := range x.doors {
		if d := &x.doors[i]; d.network == network && takesPart(d.gateway.Cluster) {
			if out.of[d.gateway.Cluster] = append(out.of[d.gateway.Cluster], i); out.first == "" {
				out.first = d.gateway.Cluster
			}
		}
	}
	return out
}

// behind are those of some definitions whose pods a door leads to.
func (to *waysTo) behind(d *door, definitions []*world.Service) []*world.Service {
	var out []*world.Service
	for _, s := range definitions {
		if s.Cluster == d.gateway.Cluster || to.first == d.gateway.Cluster && len(to.of[s.Cluster]) == 0 {
			out = append(out, s)
		}
	}
	return out
}

// weigh says how much each of these doors weighs for the service, of which there are some definitions on their network. Pods that are not ready count if they are wanted here, and the gateways there, which go by their own cluster's definition, lead to them.
func (x *index) weigh(n serviceName, unhealthyToo bool, to waysTo, definitions []*world.Service) map[int]int {
	behind := 0 // healthy pods of clusters without a door of their own
	weight := map[int]int{}
	for _, s := range definitions {
		count := x.podsOnNetwork(s.Cluster, n, to.network)
		usable := count.healthy
		if unhealthyToo && s.NotReady {
			usable = count.all
		}
		if own := to.of[s.Cluster]; len(own) > 0 {
			x.share(weight, own, usable)
		} else {
			behind += usable
		}
	}
	x.share(weight, to.of[to.first], behind)
	return weight
}

// share spreads a count over doors, in proportion to the pods that each has to take it. A door that leads to anything at all weighs at
// least 1 if it is not spare, or it could not be the fallback of the others; with more doors than pods a network thus weighs a little more than its pods.
func (x *index) share(weight map[int]int, doors []int, count int) {
	if count == 0 {
		return
	}
	total := 0
	for _, d := range doors {
		total += x.doors[d].pods
	}
	passed, given := 0, 0
	for _, d := range doors {
		passed += x.doors[d].pods
		upTo := (count*passed + total - 1) / total // rounded up, so that the first get what cannot be divided
		part := upTo - given
		if given = upTo; !x.doors[d].spare {
			part = max(part, 1)
		}
		if part > 0 {
			weight[d] += part
		}
	}
}

// splitUID names the workload that stands for a service behind the door.
func (d *door) splitUID(service *mesh.Service) string {
	address := d.address
	if d.port != mesh.HBONEPort { // another door may be at the same address
		address = net.JoinHostPort(address, strconv.Itoa(int(d.port))) // in brackets if it is IPv6: fd00::1:1500 is an address, too
	}
	return d.network + "/SplitHorizonWorkload/" + d.gateway.Namespace + "/" + d.gateway.Name + "/" + address + "/" +
		service.Namespace + "/" + service.Hostname
}

// splitWorkload stands for what a door leads to, which is sorted in place. It has the ports that these clusters have: the gateway there refuses others, whoever else on the network has them.
func (x *index) splitWorkload(d *door, service *mesh.Service, behind []*world.Service, capacity int) *mesh.Workload {
	uid := d.splitUID(service)
	slices.SortFunc(behind, x.compareDefinitions)
	ports := mergePorts(behind, nil)
	for i := range ports {
		ports[i].Name = "" // the service tells it
	}
	return &mesh.Workload{
		UID: uid, Name: uid, Namespace: service.Namespace,
		Network: d.network, Cluster: string(d.gateway.Cluster), Tunnel: mesh.TunnelHBONE, TrustDomain: d.trustDomain,
		Capacity: uint32(capacity), Services: map[mesh.ServiceKey][]mesh.Port{service.Key(): ports},
		NetworkGateway: d.at(), Kind: mesh.KindPod, Locality: d.locality,
	}
}
