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

// door is a way into another network: one address of one remote gateway.
type door struct {
	gateway        world.Key
	network        string
	address        string // as its status says
	addr           netip.Addr
	serviceAccount string
	port           uint16
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
func (d *door) workload(c world.Config) *mesh.Workload {
	out := &mesh.Workload{
		UID:  "NetworkGateway/" + d.network + "/" + d.address + "/" + strconv.Itoa(int(d.port)),
		Name: d.gateway.Name, Namespace: d.gateway.Namespace,
		Network: d.network, Cluster: string(d.gateway.Cluster),
		TrustDomain: c.TrustDomain, ServiceAccount: d.serviceAccount,
		Capacity: 1, Kind: mesh.KindDeployment, WorkloadName: d.gateway.Name,
	}
	if d.addr.IsValid() {
		out.Addresses = []netip.Addr{d.addr}
	} else {
		out.Hostname = d.address
	}
	return out
}

// findDoors looks at all remote Gateways.
func (x *index) findDoors() []door {
	var out []door
	x.claims.at, x.claims.doors = set[string]{}, map[world.Cluster]int{}
	seen := set[[2]string]{}
	var keys []world.Key
	for k := range x.state.Gateways {
		if !x.here(k.Cluster) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, world.Key.Compare)
	for _, k := range keys {
		g := x.state.Gateways[k]
		network, known := x.network(k.Cluster)
		// A cluster speaks for its own network only.
		if !known || g.Deleting || g.Network != "" && g.Network != network || !x.remoteClassIsOurs(g) {
			continue
		}
		port, ok := x.tunnelPort(g)
		if !ok || !x.standing(k) {
			continue
		}
		for _, a := range g.Status {
			d := door{gateway: k, network: network, address: a.Value, serviceAccount: cmp.Or(g.ServiceAccount, g.Name), port: port}
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
			if at := [2]string{network, d.address}; x.mayOpen(&d) && !seen.has(at) {
				seen.add(at)
				out = append(out, d)
			}
		}
	}
	return out
}

// tunnelPort is where a remote Gateway ends outer tunnels: its first HBONE listener, or, if it was broken since, the one that it
// had when it was accepted last.
func (x *index) tunnelPort(g *world.Gateway) (uint16, bool) {
	for _, l := range g.Listeners {
		if l.Protocol == protocolHBONE && l.TLSMode == tlsTerminate && l.Port != 0 {
			return l.Port, true
		}
	}
	if last := x.lastListeners(g.Key); len(last) > 0 {
		return last[0].Port, true
	}
	return 0, false
}

// remoteClassIsOurs says whether a remote Gateway is an east-west gateway that speaks our wire. The class need not be readable.
func (x *index) remoteClassIsOurs(g *world.Gateway) bool {
	if c := x.state.GatewayClasses[g.In("", g.Class)]; c != nil {
		return c.Controller == ControllerName && g.Class != ClassWaypoint || g.Class == ClassIstioEastWest
	}
	return g.Class == ClassEastWest || g.Class == ClassIstioEastWest
}

// splitHorizon is how other networks' pods of a service look from here: one workload per door that leads to them, weighted so
// that all doors of a network together weigh as much as the healthy pods behind them.
func (x *index) splitHorizon(n serviceName, service *mesh.Service, remotes []*world.Service) map[string]*mesh.Workload {
	behind := map[string]int{}           // network → healthy pods of clusters without a door of their own
	through := map[string][]int{}        // network → doors of clusters that take part
	doorsOf := map[world.Cluster][]int{} // the same by cluster
	definitions := map[string][]*world.Service{}
	for _, s := range remotes {
		if network, _ := x.network(s.Cluster); !x.here(s.Cluster) {
			definitions[network] = append(definitions[network], s)
		}
	}
	if len(definitions) == 0 {
		return nil
	}
	for i, d := range x.doors {
		if slices.ContainsFunc(definitions[d.network], func(s *world.Service) bool { return s.Cluster == d.gateway.Cluster }) {
			through[d.network] = append(through[d.network], i)
			doorsOf[d.gateway.Cluster] = append(doorsOf[d.gateway.Cluster], i)
		}
	}
	weight := map[int]int{}
	for network, services := range definitions {
		for _, s := range services {
			count := x.pods(s.Cluster, n)
			usable := count.healthy
			if service.Balance.AllowUnhealthy {
				usable = count.all
			}
			if own := doorsOf[s.Cluster]; len(own) > 0 {
				share(weight, own, usable)
			} else {
				behind[network] += usable
			}
		}
		share(weight, through[network], behind[network])
	}
	out := map[string]*mesh.Workload{}
	for i, capacity := range weight {
		w := x.splitWorkload(&x.doors[i], service, definitions[x.doors[i].network], capacity)
		out[w.UID] = w
	}
	return out
}

// share spreads a count over doors. A door that leads to anything at all weighs at least 1, or it could not be the fallback of
// the others; with more doors than pods a network thus weighs a little more than its pods.
func share(weight map[int]int, doors []int, count int) {
	if count == 0 {
		return
	}
	for i, d := range doors {
		part := count / len(doors)
		if i < count%len(doors) {
			part++
		}
		weight[d] += max(part, 1)
	}
}

func (x *index) splitWorkload(d *door, service *mesh.Service, definitions []*world.Service, capacity int) *mesh.Workload {
	uid := d.network + "/SplitHorizonWorkload/" + d.gateway.Namespace + "/" + d.gateway.Name + "/" + d.address + "/" +
		service.Namespace + "/" + service.Hostname
	definitions = slices.Clone(definitions)
	slices.SortFunc(definitions, func(a, b *world.Service) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Cluster, b.Cluster))
	})
	ports := mergePorts(definitions, nil)
	return &mesh.Workload{
		UID: uid, Name: uid, Namespace: service.Namespace,
		Network: d.network, Cluster: string(d.gateway.Cluster), Tunnel: mesh.TunnelHBONE, TrustDomain: x.config.TrustDomain,
		Capacity: uint32(capacity), Services: map[mesh.ServiceKey][]mesh.Port{service.Key(): ports},
		NetworkGateway: d.at(), Kind: mesh.KindPod,
	}
}
