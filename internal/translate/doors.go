// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	dnsname "k8s.io/apimachinery/pkg/util/validation"

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
		UID:  mesh.GatewayUID(d.network, d.address, d.port),
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

// wayIn is an address of a Gateway that would be a door if nobody who is believed before has it.
type wayIn struct {
	door
	crew *crew // the same for all Gateways that one Service leads to
}

// waysIn are those of one cluster. They hold what is found in the cluster itself, so that a change there does not have those of others looked at.
type waysIn struct {
	in      []wayIn // in the order in which they are used, each entrance once, and of each network no more than are used
	refused refusedDoors
	used    []int  // which of them are doors, as last settled
	doors   []door // these
}

// findWaysIn looks at a cluster's Gateways that lead to what is another network for some of our pods; of our own cluster they do if it has several. nil: there are none.
func (x *index) findWaysIn(c world.Cluster) *waysIn {
	if _, known := x.network(c); !known || c == x.config.LocalCluster && !x.several() {
		return nil
	}
	type leading struct {
		gateway *world.Gateway
		network string
		port    uint16
	}
	out := &waysIn{}
	var all []leading
	for k := range x.gatesIn[c] {
		x.looked++
		g := x.state.Gateways[k]
		if g.Deleting || !x.leadsIn(g) || x.crowdedWays.has(k) { // one of ours that is one too many says so itself
			continue
		}
		port, ok := x.tunnelPort(g)
		if !ok {
			continue
		}
		if !x.mayLeadIn(g) {
			out.refused.unpermitted += len(g.Status)
			continue
		}
		network, ok := x.networkFor(c, g.Network)
		if !ok {
			out.refused.foreign++ // a cluster speaks for its own networks only
			continue
		}
		switch {
		case !x.across(network):
		case c != x.config.LocalCluster && g.Namespace != x.config.SystemNamespace && !namespaceAllowed(x.limits[c], g.Namespace):
			out.refused.foreign += len(g.Status)
		default:
			all = append(all, leading{g, network, port})
		}
	}
	slices.SortFunc(all, func(a, b leading) int { return x.compareWaysIn(a.gateway, b.gateway) })
	gates, crews := map[string]int{}, map[world.Key]*crew{} // by network, that are used or could be; by Service
	addresses, places := map[string]int{}, set[entrance]{}  // by network
	for _, l := range all {
		g := l.gateway
		if gates[l.network]++; gates[l.network] > x.maxWaysIn {
			out.refused.crowded += len(g.Status)
			continue
		}
		front := x.front(g)
		crew := crews[front]
		if crew == nil {
			crew = x.crewOf(front)
			crews[front] = crew
		}
		if !crew.stands {
			continue
		}
		some := min(len(g.Status), maxStatusAddresses)
		out.refused.crowded += len(g.Status) - some
		for _, a := range g.Status[:some] {
			x.looked++
			d := door{gateway: g.Key, network: l.network, address: a.Value, serviceAccount: crew.accountOf(g), port: l.port, locality: crew.locality, trustDomain: x.trustDomain(c)}
			switch a.Type {
			case addressIP:
				addr, err := netip.ParseAddr(a.Value)
				if err != nil || addr.Zone() != "" || !addr.Unmap().IsGlobalUnicast() {
					continue
				}
				d.addr = addr.Unmap()
				d.address = d.addr.String()
			case addressHostname:
				if !isHostname(a.Value) {
					continue
				}
			default:
				continue
			}
			place := d.entrance()
			switch {
			case places.has(place): // of a Gateway before
			case addresses[d.network] == x.maxWaysIn:
				out.refused.crowded++
			default:
				places.add(place)
				addresses[d.network]++
				out.in = append(out.in, wayIn{d, crew})
			}
		}
	}
	if len(out.in) == 0 && out.refused == (refusedDoors{}) {
		return nil
	}
	return out
}

// findDoors settles which ways in are doors, after those of some clusters may have become others.
func (x *index) findDoors(changed set[world.Cluster]) []door {
	if changed.has(x.config.LocalCluster) {
		x.settleWaysIn()
	}
	for c := range changed {
		if ways := x.findWaysIn(c); ways != nil {
			x.waysIn[c] = ways
		} else {
			delete(x.waysIn, c)
		}
	}
	x.claims.at, x.claims.doors = set[string]{}, map[world.Cluster]refusedDoors{}
	holders, here := map[entrance]world.Cluster{}, x.networksHere()
	var out []door
	for _, c := range slices.SortedFunc(maps.Keys(x.waysIn), x.compareClusters) {
		ways := x.waysIn[c]
		x.refuseDoors(c, ways.refused)
		used := x.takePlaces(c, ways.in, holders, here)
		if !slices.Equal(used, ways.used) {
			doors := make([]wayIn, 0, len(used))
			for _, i := range used {
				doors = append(doors, ways.in[i])
			}
			ways.used, ways.doors = used, x.countCrews(doors)
		}
		out = append(out, ways.doors...)
	}
	return out
}

// takePlaces finds which ways into a cluster are doors, beside those of clusters that are believed before it. Those of all clusters are looked at for each change of any, so they are counted.
func (x *index) takePlaces(c world.Cluster, in []wayIn, holders map[entrance]world.Cluster, here []string) []int {
	var used []int
	for i := range in {
		x.looked++
		d := &in[i].door
		if c != x.config.LocalCluster && !x.mayOpen(d, here) {
			x.refuseDoors(c, refusedDoors{foreign: 1})
			continue
		}
		place := d.entrance()
		if holder, taken := holders[place]; taken {
			x.refuseDoors(c, refusedDoors{taken: 1, holder: holder})
			continue
		}
		holders[place] = c
		used = append(used, i)
	}
	return used
}

// isHostname says whether a hostname is one. What looks like an address, or has a port, would be told under the name of a door that is there.
func isHostname(s string) bool {
	_, err := netip.ParseAddr(s)
	return err != nil && len(dnsname.IsDNS1123Subdomain(s)) == 0
}

// entrance is where a door is. Who is believed first has it. Another port of the same address is another door: clusters may be behind one address, and one that only
// claims to be takes nothing from the others. A hostname is the same place on all networks, and proxies know a gateway by it and the port alone: what goes wrong there with one would be held against
// the other.
type entrance struct {
	network, address string // without a network: a hostname
	port             uint16
}

func (d *door) entrance() entrance {
	if !d.addr.IsValid() {
		return entrance{"", d.address, d.port}
	}
	return entrance{d.network, d.address, d.port}
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

// weightless says whether all is the same of two doors but what each weighs.
func weightless(a, b door) bool {
	a.pods, b.pods, a.spare, b.spare = 0, 0, false, false
	return a == b
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
