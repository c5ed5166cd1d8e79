// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
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
