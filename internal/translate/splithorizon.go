// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// door is a way into another network: one address of one gateway there.
type door struct {
	gateway        world.Key
	network        string
	address        string // as its status says
	addr           netip.Addr
	serviceAccount string
	port           uint16
	locality       mesh.Locality // of its pods
	pods           int           // that take connections, in parts of podParts: its part of those that are behind other doors of the network, too
	spare          bool          // others of the network take all that it could, with the same pods
	trustDomain    string
}

func (d *door) at() *mesh.GatewayAddress {
	out := &mesh.GatewayAddress{Port: d.port}
	if d.addr.IsValid() {
		out.Addr = mesh.NetworkAddress{Network: d.network, Addr: d.addr}
	} else {
		out.Hostname = mesh.ServiceKey{Namespace: d.gateway.Namespace, Hostname: d.address}
	}
	return out
}

// workload is the gateway itself: who it must prove to be, and where.
func (d *door) workload() *mesh.Workload {
	out := &mesh.Workload{
		UID:  "NetworkGateway/" + d.network + "/" + d.address + "/" + strconv.Itoa(int(d.port)),
		Name: d.gateway.Name, Namespace: d.gateway.Namespace,
		Network: d.network, Cluster: string(d.gateway.Cluster),
		TrustDomain: d.trustDomain, ServiceAccount: d.serviceAccount,
		Capacity: 1, Kind: mesh.KindDeployment, WorkloadName: d.gateway.Name, Locality: d.locality,
	}
	if d.addr.IsValid() {
		out.Addresses = []netip.Addr{d.addr}
	} else {
		out.Hostname = d.address
	}
	return out
}

// findDoors looks at all Gateways that lead to what is another network for some of our pods: remote ones, and our own if our cluster has several.
func (x *index) findDoors() []door {
	var out []door
	x.claims.at, x.claims.doors = set[string]{}, map[world.Cluster]refusedDoors{}
	holders := map[entrance]world.Cluster{}
	var keys []world.Key
	several := x.several()
	for k := range x.state.Gateways {
		if several || k.Cluster != x.config.LocalCluster {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b world.Key) int {
		return cmp.Or(x.compareClusters(a.Cluster, b.Cluster), x.compareWaysIn(x.state.Gateways[a], x.state.Gateways[b]))
	})
	type side struct {
		world.Cluster
		network string
	}
	gates, addresses := map[side]int{}, map[side]int{} // that are used or could be
	for _, k := range keys {
		g := x.state.Gateways[k]
		if _, known := x.network(k.Cluster); !known || g.Deleting || !x.leadsIn(g) {
			continue
		}
		port, ok := x.tunnelPort(g)
		if !ok {
			continue
		}
		if !x.mayLeadIn(g) {
			x.refuseDoors(k.Cluster, refusedDoors{unpermitted: len(g.Status)})
			continue
		}
		network, ok := x.networkFor(k.Cluster, g.Network)
		if !ok {
			x.refuseDoors(k.Cluster, refusedDoors{foreign: 1}) // a cluster speaks for its own networks only
			continue
		}
		if !x.across(network) {
			continue
		}
		at := side{k.Cluster, network}
		if gates[at]++; gates[at] > maxWaysIn {
			x.refuseDoors(k.Cluster, refusedDoors{crowded: len(g.Status)})
			continue
		}
		if !x.standing(k) {
			continue
		}
		locality, account := x.gatewayLocality(k), x.gatewayAccount(g)
		for _, a := range g.Status {
			d := door{gateway: k, network: network, address: a.Value, serviceAccount: account, port: port, locality: locality, trustDomain: x.trustDomain(k.Cluster)}
			switch a.Type {
			case addressIP:
				addr, err := netip.ParseAddr(a.Value)
				if err != nil || addr.Zone() != "" || !addr.Unmap().IsGlobalUnicast() {
					continue
				}
				d.addr = addr.Unmap()
				d.address = d.addr.String()
			case addressHostname:
				if a.Value == "" {
					continue
				}
			default:
				continue
			}
			if k.Cluster != x.config.LocalCluster && !x.mayOpen(&d) {
				x.refuseDoors(k.Cluster, refusedDoors{foreign: 1})
				continue
			}
			if addresses[at] == maxWaysIn {
				x.refuseDoors(k.Cluster, refusedDoors{crowded: 1})
				continue
			}
			place := entrance{network, d.address, port}
			holder, taken := holders[place]
			switch {
			case !taken:
				holders[place] = k.Cluster
				addresses[at]++
				out = append(out, d)
			case holder != k.Cluster:
				x.refuseDoors(k.Cluster, refusedDoors{taken: 1, holder: holder})
			}
		}
	}
	x.countBehindDoors(out)
	return out
}

// entrance is where a door is. Who is believed first has it. Another port of the same address is another door: clusters may be behind one address, and one that only
// claims to be takes nothing from the others.
type entrance struct {
	network, address string
	port             uint16
}

// refuseDoors counts addresses that are not used.
func (x *index) refuseDoors(c world.Cluster, more refusedDoors) {
	refused := x.claims.doors[c]
	refused.foreign += more.foreign
	refused.unpermitted += more.unpermitted
	refused.crowded += more.crowded
	refused.taken += more.taken
	refused.holder = cmp.Or(refused.holder, more.holder)
	if refused != (refusedDoors{}) {
		x.claims.doors[c] = refused
	}
}

// tunnelPort is where a remote Gateway ends outer tunnels: its first HBONE listener, or, if it was broken since, the one that it
// had when it was accepted last.
func (x *index) tunnelPort(g *world.Gateway) (uint16, bool) {
	for _, l := range g.Listeners {
		if l.Protocol == protocolHBONE && l.TLSMode == tlsTerminate && l.Port != 0 {
			return l.Port, true
		}
	}
	if last := x.lastTunnels(g); len(last) > 0 {
		return last[0].Port, true
	}
	return 0, false
}

// leadsIn says whether a Gateway is an east-west gateway that speaks our wire. A remote one's class need not be readable.
func (x *index) leadsIn(g *world.Gateway) bool {
	if g.Cluster == x.config.LocalCluster {
		return x.ourClass(g.Class) && g.Class != ClassWaypoint && x.near(cmp.Or(g.Network, x.networkLabel(g.Cluster)))
	}
	if c := x.state.GatewayClasses[g.In("", g.Class)]; c != nil {
		return c.Controller == ControllerName && g.Class != ClassWaypoint || g.Class == ClassIstioEastWest
	}
	return g.Class == ClassEastWest || g.Class == ClassIstioEastWest
}

// splitHorizon is how other networks' pods of a service look from here: one workload per door that leads to them, weighted so
// that all doors of a network together weigh as much as the healthy pods behind it. definitions are those of all clusters that take part. If our own
// cluster has several networks, each of them is another one for the others; proxies leave out what stands for their own.
func (x *index) splitHorizon(n serviceName, service *mesh.Service, definitions []*world.Service) map[string]*mesh.Workload {
	byNetwork := x.byNetwork(n, definitions)
	if len(byNetwork) == 0 {
		return nil
	}
	out := map[string]*mesh.Workload{}
	for network, there := range byNetwork {
		for i, capacity := range x.weigh(n, service.Balance.AllowUnhealthy, network, definitions) {
			w := x.splitWorkload(&x.doors[i], service, there, capacity)
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

// weigh says how much each door of a network weighs for a service that some clusters define: doors of other clusters do not let in. Pods of clusters without a door of their
// own are behind those of one cluster, the first that is believed: whoever else says to be on that network gets nothing that is meant for them.
func (x *index) weigh(n serviceName, unhealthyToo bool, network string, definitions []*world.Service) map[int]int {
	behind := 0                          // healthy pods of clusters without a door of their own
	var first world.Cluster              // whose doors they are behind
	doorsOf := map[world.Cluster][]int{} // of clusters that take part
	for i, d := range x.doors {
		if d.network == network && slices.ContainsFunc(definitions, func(s *world.Service) bool { return s.Cluster == d.gateway.Cluster }) {
			if doorsOf[d.gateway.Cluster] = append(doorsOf[d.gateway.Cluster], i); first == "" {
				first = d.gateway.Cluster
			}
		}
	}
	weight := map[int]int{}
	for _, s := range definitions {
		count := x.podsOnNetwork(s.Cluster, n, network)
		usable := count.healthy
		if unhealthyToo {
			usable = count.all
		}
		if own := doorsOf[s.Cluster]; len(own) > 0 {
			x.share(weight, own, usable)
		} else {
			behind += usable
		}
	}
	x.share(weight, doorsOf[first], behind)
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

func (x *index) splitWorkload(d *door, service *mesh.Service, definitions []*world.Service, capacity int) *mesh.Workload {
	uid := d.splitUID(service)
	definitions = slices.Clone(definitions)
	slices.SortFunc(definitions, x.compareDefinitions)
	ports := mergePorts(definitions, nil)
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
