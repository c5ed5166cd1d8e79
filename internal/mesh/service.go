// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"cmp"
	"slices"
)

// Scope is one level at which a client and an endpoint may be near each other.
type Scope uint8

const (
	ScopeRegion Scope = iota + 1
	ScopeZone
	ScopeSubzone
	ScopeNode
	ScopeCluster
	ScopeNetwork
)

// BalanceMode says how a service's routing preference is used.
type BalanceMode uint8

const (
	// BalanceSpread uses all endpoints, by capacity.
	BalanceSpread BalanceMode = iota
	// BalanceStrict uses only endpoints that match every preferred scope.
	BalanceStrict
	// BalanceFailover uses the endpoints that match the longest prefix of the preferred scopes.
	BalanceFailover
	// BalancePassthrough never picks: the original destination is dialled.
	BalancePassthrough
)

// LoadBalancing is how endpoints of a service are chosen.
type LoadBalancing struct {
	Preference     []Scope
	Mode           BalanceMode
	AllowUnhealthy bool
}

// Families restricts the address family of a service's endpoints.
type Families uint8

const (
	FamiliesAny Families = iota
	FamiliesIPv4
	FamiliesIPv6
	FamiliesDual
)

// Service is a name that clients dial, merged over all clusters in which it is global.
type Service struct {
	Namespace string
	Name      string
	Hostname  string
	// Addresses are its VIPs, each valid in its own network. A headless service has none.
	Addresses []NetworkAddress
	// Ranges are addresses that are the service's as well, unless somebody has one to itself: those of what is outside of all clusters, by a ServiceEntry of Istio's.
	Ranges []NetworkRange
	Ports  []Port
	// SANs are SPIFFE ids, any one of which an endpoint of the service may prove, sorted.
	SANs     []string
	Waypoint *GatewayAddress
	// Waypoints share the service's connections by weight; if any weighs more than 0 they count instead of Waypoint.
	Waypoints []WeightedWaypoint
	// Consumers are waypoints for the clients of one namespace each, where Waypoint and Waypoints name none; sorted by namespace, each once.
	Consumers []ConsumerWaypoint
	Balance   LoadBalancing
	Families  Families
	Canonical bool // the cluster's own definition of this hostname
	// Exported says that gateways of our own cluster let other clusters in to it.
	Exported bool
	// NamespaceOnly hides the service from clients in other namespaces.
	NamespaceOnly bool
}

// WeightedWaypoint is one of several waypoints of a service.
type WeightedWaypoint struct {
	At     GatewayAddress
	Weight uint32
}

// ConsumerWaypoint is the waypoint by which the clients of one namespace reach a service, because that namespace has routes at it. Nobody else's connections pass it.
type ConsumerWaypoint struct {
	Namespace string
	At        GatewayAddress
}

// MaxConsumers is how many namespaces' waypoints one service has at most: together some 20 KiB, which every node proxy holds.
const MaxConsumers = 256

// ConsumerWaypoint finds the waypoint of a namespace's clients; nil: there is none for them.
func (s *Service) ConsumerWaypoint(namespace string) *GatewayAddress {
	i, ok := slices.BinarySearchFunc(s.Consumers, namespace, func(c ConsumerWaypoint, namespace string) int { return cmp.Compare(c.Namespace, namespace) })
	if !ok {
		return nil
	}
	return &s.Consumers[i].At
}

// Fronted says whether connections to the service pass a waypoint, whoever's they are.
func (s *Service) Fronted() bool { return s.Waypoint != nil || weighs(s.Waypoints) }

// Fronts are the waypoints that share those connections by weight: of several those that weigh anything, or else the only one.
func (s *Service) Fronts() []WeightedWaypoint {
	switch {
	case weighs(s.Waypoints):
		return slices.DeleteFunc(slices.Clone(s.Waypoints), func(w WeightedWaypoint) bool { return w.Weight == 0 })
	case s.Waypoint != nil:
		return []WeightedWaypoint{{At: *s.Waypoint, Weight: 1}}
	default:
		return nil
	}
}

func weighs(waypoints []WeightedWaypoint) bool {
	return slices.ContainsFunc(waypoints, func(w WeightedWaypoint) bool { return w.Weight > 0 })
}

// Key names the service.
func (s *Service) Key() ServiceKey { return ServiceKey{Namespace: s.Namespace, Hostname: s.Hostname} }

// Port finds the service port p, or false.
func (s *Service) Port(p uint16) (Port, bool) {
	for _, port := range s.Ports {
		if port.Service == p {
			return port, true
		}
	}
	return Port{}, false
}
