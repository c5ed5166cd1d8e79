// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"math"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Want is a question to Pick: which endpoint of Service should a connection to Port go to.
type Want struct {
	// Network is the asker's own: endpoints in it are reached by address, others through their network's gateway.
	Network string
	// Client is the workload that connects, for its locality; nil if unknown.
	Client  *mesh.Workload
	Service *mesh.Service
	Port    uint16
	// IPv6 is the family of the address that was dialled; endpoints with an address of it are reached by that one.
	IPv6 bool
	// Avoid are endpoints that must not be picked, because they were tried and failed.
	Avoid Out
	// Ejected are endpoints that should not be picked, because they failed others lately. They are picked all the same if nothing else is usable, and those that are named
	// by themselves, not by their gateway, also by a connection's first attempt (Avoid is empty) if those that are left are too few: see Heed.
	Ejected Out
	// LocalOnly leaves out endpoints behind other networks' gateways.
	LocalOnly bool
	// Only leaves out endpoints for which it is false; nil leaves out none.
	Only func(*mesh.Workload) bool
	// Random gives a number in [0, n).
	Random func(n uint64) uint64
}

// Out names endpoints that are passed over: by UID, and all that are behind a gateway, or behind any of another network's.
type Out struct {
	Endpoints map[string]struct{}
	Gateways  map[mesh.GatewayAddress]struct{}
	Networks  map[string]struct{}
}

// Empty says that nothing is passed over.
func (o Out) Empty() bool { return len(o.Endpoints)+len(o.Gateways)+len(o.Networks) == 0 }

func (o Out) has(w *mesh.Workload) bool {
	if _, out := o.Endpoints[w.UID]; out {
		return true
	}
	return o.behind(w)
}

// behind says whether an endpoint is behind a gateway that is named.
func (o Out) behind(w *mesh.Workload) bool {
	if w.NetworkGateway == nil || len(o.Gateways)+len(o.Networks) == 0 {
		return false
	}
	if _, out := o.Networks[w.Network]; out {
		return true
	}
	_, out := o.Gateways[*w.NetworkGateway]
	return out
}

// Endpoint is what Pick answers.
type Endpoint struct {
	Workload *mesh.Workload
	// Addr is the endpoint's address in the asker's network. It is not valid for an endpoint behind another network's gateway,
	// nor for one that is reached by Workload.Hostname.
	Addr netip.Addr
	// Port is the service's port at this endpoint. Port.Target is 0 only behind a gateway.
	Port mesh.Port
	// Others says that there is another usable endpoint, of this rank or another, and a way to it: one that a retry would find.
	Others bool
}

// Remote says that the endpoint is behind the gateway of another network.
func (e Endpoint) Remote(network string) bool { return e.Workload.Network != network }

// Pick chooses one endpoint: among those that are usable (healthy unless the service allows otherwise, of the right family, with
// the port, neither avoided nor ejected) those that the service's routing preference ranks best, and among them by chance, weighted by
// capacity. It answers false if there is none; Why says more then. It does not allocate, but where all others
// are behind gateways.
func Pick(v *View, want Want) (Endpoint, bool) {
	all := v.Endpoints(want.Service.Key())
	ejected, most := want.ejected(all)
	want.Ejected = ejected
	best, total, count := -1, uint64(0), 0
	for _, w := range all {
		if _, miss := want.usable(w); miss != Usable {
			continue
		}
		rank := want.rank(w)
		if rank < 0 || want.Ejected.has(w) || rank < best || rank > most {
			continue
		}
		if rank > best {
			best, total, count = rank, 0, 0
		}
		total += uint64(w.Capacity)
		count++
	}
	if count == 0 {
		return Endpoint{}, false
	}
	// With no capacity at all, every endpoint counts the same.
	weigh := func(w *mesh.Workload) uint64 { return uint64(w.Capacity) }
	if total == 0 {
		total = uint64(count)
		weigh = func(*mesh.Workload) uint64 { return 1 }
	}
	at := want.Random(total)
	for _, w := range all {
		e, miss := want.usable(w)
		if miss != Usable || want.Ejected.has(w) || want.rank(w) != best {
			continue
		}
		if weight := weigh(w); at >= weight {
			at -= weight
			continue
		}
		e.Others = want.others(v, all, w)
		return e, true
	}
	return Endpoint{}, false
}

// ejected gives which of want.Ejected are to be passed over indeed: nobody, if nobody else is left, and gateways alone, if too little of the rest is. What ranks higher than most is not to be
// picked either: too little of it is left. What is behind a gateway that is down is not weighed at all: it failed by one cause, not by many, and connections that were sent there all the
// same would only come back later, for it is asked all the time whether it is back. Nor is what stands for pods behind a gateway and failed: that gateway has tried several of them.
func (want *Want) ejected(all []*mesh.Workload) (out Out, most int) {
	if want.Ejected.Empty() {
		return Out{}, math.MaxInt
	}
	stay := false
	for _, w := range all {
		if _, miss := want.usable(w); miss == Usable && want.rank(w) >= 0 && !want.Ejected.has(w) {
			stay = true
			break
		}
	}
	switch {
	case !stay:
		return Out{}, math.MaxInt
	case !want.Avoid.Empty():
		return want.Ejected, math.MaxInt
	}
	most, heed := Heed(len(all), func(i int) (rank int, capacity uint64, out bool) {
		w := all[i]
		if _, miss := want.usable(w); miss != Usable || want.Ejected.behind(w) {
			return -1, 0, false
		}
		out = want.Ejected.has(w)
		if out && w.NetworkGateway != nil {
			return -1, 0, false
		}
		return want.rank(w), uint64(w.Capacity), out
	})
	if !heed {
		return Out{Gateways: want.Ejected.Gateways}, math.MaxInt
	}
	return want.Ejected, most
}

// Miss is why an endpoint is not usable.
type Miss uint8

// Why an endpoint is not usable, in the order in which it is found out: what comes later was nearer to being used.
const (
	// NoEndpoint: there is none at all.
	NoEndpoint Miss = iota
	// Unhealthy: it is not ready, and the service wants ready ones.
	Unhealthy
	// NoPort: neither it nor the service knows the port.
	NoPort
	// NoGateway: it is in another network, and nobody says how to get there.
	NoGateway
	// WrongFamily: it has no address of a family that the service allows.
	WrongFamily
	// TooFar: it is not within the scopes that the service insists on.
	TooFar
	// Tried: it was tried, and is to be avoided.
	Tried
	// Usable: nothing is wrong with it.
	Usable
)

// Why says what kept the endpoint that came nearest from being picked.
func Why(v *View, want Want) Miss {
	nearest := NoEndpoint
	for _, w := range v.Endpoints(want.Service.Key()) {
		_, miss := want.usable(w)
		if miss > TooFar && want.rank(w) < 0 {
			miss = TooFar
		}
		nearest = max(nearest, miss)
	}
	return nearest
}

// Count says how many endpoints Pick chooses from in this network, of the best rank or not.
func Count(v *View, want Want) int {
	n := 0
	for _, w := range v.Endpoints(want.Service.Key()) {
		if _, miss := want.usable(w); miss == Usable {
			n++
		}
	}
	return n
}

// EndpointPort is the service's port at an endpoint: what the endpoint itself says, else what the service says. It is false if
// neither knows it, as for a named port that the pod does not have. An endpoint whose application tunnel takes everything has every port.
func EndpointPort(s *mesh.Service, w *mesh.Workload, servicePort uint16) (mesh.Port, bool) {
	for _, p := range w.Services[s.Key()] {
		if p.Service == servicePort && p.Target != 0 {
			return p, true
		}
	}
	if p, ok := s.Port(servicePort); ok && p.Target != 0 {
		return p, true
	}
	if w.AppTunnel != nil && w.AppTunnel.Port != 0 {
		return mesh.Port{Service: servicePort, Target: servicePort}, true
	}
	return mesh.Port{}, false
}

func (want *Want) usable(w *mesh.Workload) (Endpoint, Miss) {
	if w.Unhealthy && !want.Service.Balance.AllowUnhealthy {
		return Endpoint{}, Unhealthy
	}
	e := Endpoint{Workload: w}
	if w.Network != want.Network {
		// The target is the far side's to know. It has the port if it says so, or if the service says that all endpoints have it.
		port, ok := portOf(w.Services[want.Service.Key()], want.Port)
		if !ok {
			port, ok = want.Service.Port(want.Port)
			ok = ok && port.Target != 0
		}
		if !ok {
			return Endpoint{}, NoPort
		}
		if w.NetworkGateway == nil || want.LocalOnly {
			return Endpoint{}, NoGateway
		}
		e.Port = port
	} else {
		port, ok := EndpointPort(want.Service, w, want.Port)
		if !ok {
			return Endpoint{}, NoPort
		}
		addr, ok := Address(w, want.Service.Families, want.IPv6)
		if !ok && (len(w.Addresses) > 0 || w.Hostname == "") {
			return Endpoint{}, WrongFamily
		}
		e.Port, e.Addr = port, addr
	}
	if want.Only != nil && !want.Only(w) {
		return Endpoint{}, NoEndpoint
	}
	if want.Avoid.has(w) {
		return Endpoint{}, Tried
	}
	return e, Usable
}

// Address chooses the address by which a workload is reached: of a family that the service allows, and rather of the family that
// the client dialled.
func Address(w *mesh.Workload, families mesh.Families, ipv6 bool) (netip.Addr, bool) {
	var other netip.Addr
	for _, addr := range w.Addresses {
		addr = addr.Unmap()
		if families == mesh.FamiliesIPv4 && !addr.Is4() || families == mesh.FamiliesIPv6 && addr.Is4() {
			continue
		}
		if addr.Is4() != ipv6 {
			return addr, true
		}
		if !other.IsValid() {
			other = addr
		}
	}
	return other, other.IsValid()
}

// rank says how well an endpoint fits the service's preference: larger is better, negative is not at all.
func (want *Want) rank(w *mesh.Workload) int {
	prefer := want.Service.Balance.Preference
	switch want.Service.Balance.Mode {
	case mesh.BalanceStrict:
		for _, scope := range prefer {
			if !want.near(w, scope) {
				return -1
			}
		}
		return 0
	case mesh.BalanceFailover:
		rank := 0
		for i, scope := range prefer {
			switch {
			case want.near(w, scope) && i == 0 && scope == mesh.ScopeNetwork:
				// Whoever shares the network outranks everyone who does not, whatever else matches.
				rank += len(prefer)
			case want.near(w, scope):
				rank++
			case i == 0 && scope == mesh.ScopeNetwork:
				// Endpoints of other networks are still ranked among themselves.
			default:
				return rank
			}
		}
		return rank
	default:
		return 0
	}
}

func (want *Want) near(w *mesh.Workload, scope mesh.Scope) bool {
	if scope == mesh.ScopeNetwork {
		return w.Network == want.Network
	}
	c := want.Client
	if c == nil {
		return false
	}
	switch scope {
	case mesh.ScopeRegion:
		return c.Locality.Region == w.Locality.Region
	case mesh.ScopeZone:
		return c.Locality.Zone == w.Locality.Zone
	case mesh.ScopeSubzone:
		return c.Locality.Subzone == w.Locality.Subzone
	case mesh.ScopeNode: // a name that each cluster gives for itself
		return c.Cluster == w.Cluster && c.Node == w.Node
	case mesh.ScopeCluster:
		return c.Cluster == w.Cluster
	default:
		return false
	}
}

func portOf(ports []mesh.Port, service uint16) (mesh.Port, bool) {
	for _, p := range ports {
		if p.Service == service {
			return p, true
		}
	}
	return mesh.Port{}, false
}
