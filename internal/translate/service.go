// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// answer is all that follows from one service name.
type answer struct {
	service   *mesh.Service             // nil: not told
	remote    map[string]*mesh.Workload // by UID: other networks' pods, seen from here
	taken     map[world.Cluster]int     // remote clusters that take part → their healthy pods
	wantVIP   []world.Cluster           // those that have it, in order, if an address is wanted for it
	exported  bool                      // our own gateways let other clusters in
	decided   decision                  // of our own cluster's rules about its own Service
	automatic bool                      // our own cluster's Service needs the namespace's automatic waypoint
	behind    bound                     // the waypoint of our own cluster's Service
	consumers []consumer                // namespaces that have one of their own to it
	conflict  *Conflict
	findings  []Finding // on our own cluster's Service
}

// usable says whether a Service can be told at all: it is one, and has a port that the mesh carries.
func usable(s *world.Service) bool { return !s.ExternalName && len(s.Ports) > 0 }

// answer works out a service name. It needs the imports of all clusters that have the service.
func (x *index) answer(n serviceName) *answer {
	out := &answer{}
	own := x.state.Services[n.in(x.config.LocalCluster)]
	var remotes []*world.Service
	if own != nil {
		out.decided = x.decideIn(x.config.LocalCluster, own)
		if !usable(own) {
			if out.decided.verdict == global {
				out.findings = []Finding{unusable(own)}
			}
			return out
		}
		if out.findings = distributionFinding(own); out.findings == nil {
			out.findings = x.strayFinding(own)
		}
		if out.decided.verdict == global {
			out.exported = true
			remotes = x.offers(n, nil)
		}
	} else {
		if x.state.Namespaces[world.Key{Cluster: x.config.LocalCluster, Name: n.Namespace}] == nil {
			return out // a name is answered in namespaces that exist here
		}
		remotes = x.offers(n, x.carvedOut)
		if len(remotes) == 0 {
			return out
		}
		for _, s := range remotes {
			out.wantVIP = append(out.wantVIP, s.Cluster)
		}
		slices.Sort(out.wantVIP)
	}
	vip := x.state.VIPs[world.VIPKey(x.serviceKey(n))]
	if own == nil && vip == nil {
		return out // soon: somebody reads wantVIP
	}
	out.taken = make(map[world.Cluster]int, len(remotes))
	for _, s := range remotes {
		out.taken[s.Cluster] = x.pods(s.Cluster, n).healthy
	}
	out.service, out.conflict = x.merge(n, own, remotes)
	takingPart := x.takingPart(own, remotes)
	out.service.SANs = x.sans(n, takingPart)
	if own != nil {
		if out.conflict != nil {
			out.findings = append(out.findings, out.conflict.finding())
		}
		out.automatic = x.wantsAutomatic(own)
		waypoint, findings := x.serviceWaypoint(own)
		out.behind, out.service.Waypoint, out.findings = waypoint, waypoint.at, append(out.findings, findings...)
		out.consumers = x.consumers(own, waypoint)
		out.service.Consumers = consumerWaypoints(out.consumers)
	}
	if own == nil {
		for _, network := range x.networksHere() {
			for _, a := range []netip.Addr{vip.V4, vip.V6} {
				if a.IsValid() {
					out.service.Addresses = append(out.service.Addresses, mesh.NetworkAddress{Network: network, Addr: a})
				}
			}
		}
		slices.SortFunc(out.service.Addresses, compareAddresses)
	}
	out.service.Exported = out.exported
	out.remote = x.splitHorizon(n, out.service, takingPart)
	return out
}

// takingPart are the definitions of clusters whose pods are reached through gateways: remote ones that count, and our own if it is shared and our
// cluster has several networks. A gateway lets in to what is shared only, also from our own cluster.
func (x *index) takingPart(own *world.Service, remotes []*world.Service) []*world.Service {
	if !x.takesPartHere(own) {
		return remotes
	}
	return append(slices.Clone(remotes), own)
}

// takesPartHere says whether our own cluster's definition of a service, which may be nil, is one of those.
func (x *index) takesPartHere(own *world.Service) bool {
	return own != nil && x.several() && x.decideIn(own.Cluster, own).verdict == global
}

// sans are the identities that may be at the far end of a tunnel through a gateway: of pods, and of the waypoint in front of them. Pods that are told one by one have their identity with them.
func (x *index) sans(n serviceName, definitions []*world.Service) []string {
	out := set[string]{}
	for _, s := range definitions {
		across := false
		for p := range x.places(s.Cluster, n) {
			if x.across(p.network) {
				across = true
				out.add(mesh.Identity{TrustDomain: x.trustDomain(s.Cluster), Namespace: n.Namespace, ServiceAccount: p.account}.String())
			}
		}
		if waypoint, ok := x.farWaypoint(s); ok && across {
			out.add(waypoint.String())
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// carvedOut says whether a LOCAL entry of our own cluster keeps out another one's service. The labels of our own namespace count as
// much as those that the other cluster says its namespace has: it could leave one away.
func (x *index) carvedOut(s *world.Service) bool {
	ours := x.namespaceLabels(x.config.LocalCluster, s.Namespace)
	return x.decideIn(x.config.LocalCluster, s).verdict == local || decide(x.inForce[x.config.LocalCluster], s.Labels, ours).verdict == local
}

// offers are the remote definitions of a service that may be used, in no particular order.
func (x *index) offers(n serviceName, carvedOut func(*world.Service) bool) []*world.Service {
	var out []*world.Service
	for c := range x.clustersOf[n] {
		if c == x.config.LocalCluster || !x.offered(c, n) {
			continue
		}
		if s := x.state.Services[n.in(c)]; carvedOut == nil || !carvedOut(s) {
			out = append(out, s)
		}
	}
	return out
}

// merge makes one service of all definitions. own may be nil; remotes are definitions of other clusters that count.
func (x *index) merge(n serviceName, own *world.Service, remotes []*world.Service) (*mesh.Service, *Conflict) {
	all := slices.Clone(remotes)
	if own != nil {
		all = append(all, own)
	}
	slices.SortFunc(all, x.compareDefinitions)
	base := all[0]
	out := &mesh.Service{
		Namespace: n.Namespace, Name: n.Name, Hostname: x.hostname(n),
		Balance: x.balance(base), Families: base.Families, Canonical: own != nil,
	}
	if own == nil {
		out.Families = mesh.FamiliesAny // its addresses are ours, of either family
	}
	var found clashes
	out.Ports = mergePorts(all, &found)
	if own != nil {
		x.differences(n, own, all, &found)
	}
	seen := set[mesh.NetworkAddress]{}
	for _, s := range all {
		network, _ := x.network(s.Cluster)
		networks := []string{network}
		switch {
		case s.Cluster == x.config.LocalCluster:
			networks = x.networksHere() // a cluster IP is good for all pods of its cluster
		case own != nil && own.Headless:
			// A proxy asked for the name of a service with any address answers with those of its network, and not with those of the pods.
			continue
		case x.near(network):
			// Another cluster's VIPs in a network of ours are left out: nothing routes them, and they may be the VIPs of quite
			// different services here.
			continue
		}
		for _, network := range networks {
			for _, a := range s.Addresses {
				seen.add(mesh.NetworkAddress{Network: network, Addr: a})
			}
		}
	}
	out.Addresses = slices.SortedFunc(maps.Keys(seen), compareAddresses)
	return out, found.conflict(n)
}

func compareAddresses(a, b mesh.NetworkAddress) int {
	return cmp.Or(cmp.Compare(a.Network, b.Network), a.Addr.Compare(b.Addr))
}

// mergePorts is the union of the ports of definitions that are sorted by who is believed first; of two different ones the first counts. What differs
// goes into clashes, if given.
//
// A port that is not the same everywhere has no target of its own: only an endpoint that names the port has it (0, "see the endpoint").
// An endpoint of a cluster whose definition lacks the port would otherwise be sent to a port that nobody said it listens on.
func mergePorts(sorted []*world.Service, clashes *clashes) []mesh.Port {
	type owned struct {
		port    world.ServicePort
		cluster world.Cluster
		last    world.Cluster // whose definition was the last to have it
		times   int           // definitions that have it
	}
	ports := map[uint16]owned{}
	for _, s := range sorted {
		for _, p := range s.Ports {
			first, ok := ports[p.Port]
			if !ok {
				ports[p.Port] = owned{p, s.Cluster, s.Cluster, 1}
				continue
			}
			if first.last == s.Cluster {
				continue // the same number twice in one Service
			}
			if first.port.App != p.App {
				clashes.speaks(p.Port, first.cluster, first.port.App, s.Cluster, p.App)
			}
			if first.port.Target != p.Target {
				first.port.Target = 0
			}
			first.times++
			first.last = s.Cluster
			ports[p.Port] = first
		}
	}
	out := make([]mesh.Port, 0, len(ports))
	for _, number := range slices.Sorted(maps.Keys(ports)) {
		p := ports[number]
		if p.times < len(sorted) {
			p.port.Target = 0
			clashes.missing(number, sorted)
		}
		out = append(out, mesh.Port{Service: p.port.Port, Target: p.port.Target, App: p.port.App, Name: p.port.Name})
	}
	return out
}

var protocolNames = map[mesh.AppProtocol]string{
	mesh.AppUnknown: "an unnamed protocol", mesh.AppHTTP11: "HTTP", mesh.AppHTTP2: "HTTP/2", mesh.AppGRPC: "gRPC",
	mesh.AppTCP: "TCP", mesh.AppTLS: "TLS",
}

// Values of trafficDistribution.
const (
	preferClose    = "PreferClose"
	preferSameZone = "PreferSameZone"
	preferSameNode = "PreferSameNode"
	preferAny      = "Any" // of the annotation: none
)

// distribution is a Service's own, or its namespace's; "" if it is none.
func (x *index) distribution(s *world.Service) string {
	d := s.Distribution
	if ns := x.state.Namespaces[world.Key{Cluster: s.Cluster, Name: s.Namespace}]; d == "" && ns != nil {
		d = ns.Distribution
	}
	switch d {
	case preferSameZone: // another word for the same
		return preferClose
	case preferAny:
		return ""
	}
	return d
}

func (x *index) balance(s *world.Service) mesh.LoadBalancing {
	out := mesh.LoadBalancing{AllowUnhealthy: s.NotReady}
	switch {
	case s.NodeLocal && s.Cluster == x.config.LocalCluster: // of another cluster's nodes none is ours: nobody would reach the service
		out.Mode, out.Preference = mesh.BalanceStrict, []mesh.Scope{mesh.ScopeNode}
	case x.distribution(s) == preferClose:
		out.Mode, out.Preference = mesh.BalanceFailover, []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone}
	case x.distribution(s) == preferSameNode:
		out.Mode = mesh.BalanceFailover
		out.Preference = []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone, mesh.ScopeSubzone, mesh.ScopeNode}
	}
	return out
}

// unusable says why a Service that was to be global is not.
func unusable(s *world.Service) Finding {
	f := Finding{Type: ConditionAccepted, Status: isFalse, Reason: "NoPorts",
		Message: "spec.ports holds no TCP port, so there is nothing for other clusters to connect to: the Service stays local"}
	if s.ExternalName {
		f.Reason, f.Message = "ExternalName", "spec.type ExternalName has no endpoints that another cluster could reach: the Service stays local"
	}
	return f
}

func distributionFinding(s *world.Service) []Finding {
	switch s.Distribution {
	case "", preferClose, preferSameZone, preferSameNode, preferAny:
		return nil
	}
	return []Finding{{Type: ConditionAccepted, Status: isFalse, Reason: "UnknownTrafficDistribution",
		Message: fmt.Sprintf("traffic distribution %q is none of PreferClose, PreferSameZone, PreferSameNode: traffic is spread evenly", s.Distribution)}}
}
