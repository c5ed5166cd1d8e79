// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

func identity(namespace, account string) mesh.Identity {
	return mesh.Identity{TrustDomain: "cluster.local", Namespace: namespace, ServiceAccount: account}
}

func TestDecide(t *testing.T) {
	gatewayAddr := mesh.GatewayAddress{Addr: shop.At("west", "203.0.113.9"), Port: 15009}
	gateway := shop.Pod("eastwest", "203.0.113.9", shop.InNetwork("west"), func(w *mesh.Workload) {
		w.UID, w.Namespace, w.Tunnel = "NetworkGateway/west/203.0.113.9/15009", "isthmus-system", mesh.TunnelNone
	})
	waypointAddr := &mesh.GatewayAddress{Hostname: shop.Key("way"), Port: 15008}
	withWaypoint := func(s *mesh.Service) { s.Waypoint = waypointAddr }
	waypointService := shop.Service("way", "10.96.0.9", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 15008, Target: 15008}} })
	waypointPod := shop.Pod("way", "10.0.0.9", shop.Serves("way", 15008, 15008))
	consumers := func(waypoint string) func(*mesh.Service) {
		return func(s *mesh.Service) {
			s.Consumers = []mesh.ConsumerWaypoint{{Namespace: "apart", At: mesh.GatewayAddress{Hostname: shop.Key("apart")}}, {Namespace: "shop", At: mesh.GatewayAddress{Hostname: shop.Key(waypoint), Port: 15008}}}
		}
	}
	consumed, cartPod := shop.Service("cart", "10.96.0.1", consumers("way")), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080))
	inCluster := func(cluster string) func(*mesh.Workload) { return func(w *mesh.Workload) { w.Cluster = cluster } }
	toCart := Plan{
		Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:8080",
		Next: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/cart",
	}

	for _, tc := range []struct {
		name   string
		world  []any
		source *mesh.Workload
		dst    string
		avoid  []string
		want   Plan
		reason Reason
	}{
		{
			name:  "1: service with a waypoint here",
			world: []any{shop.Service("cart", "10.96.0.1", withWaypoint), waypointService, waypointPod},
			dst:   "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.96.0.1:80",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name:  "1: but the waypoint itself goes to the endpoint",
			world: []any{shop.Service("cart", "10.96.0.1", withWaypoint), waypointService, waypointPod, shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080))},
			dst:   "10.96.0.1:80", source: waypointPod,
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:8080",
				Next: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/cart",
			},
		},
		{
			name:  "1: the waypoint of the client's namespace, where the service has none",
			world: []any{consumed, waypointService, waypointPod, cartPod}, dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.96.0.1:80",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name:  "1: it is not for clients of other namespaces",
			world: []any{consumed, waypointService, waypointPod, cartPod}, dst: "10.96.0.1:80",
			source: shop.Pod("till", "10.0.0.5", func(w *mesh.Workload) { w.Namespace = "other" }), want: toCart,
		},
		{
			name:  "1: nor for what comes out of a gateway of the namespace",
			world: []any{consumed, waypointService, waypointPod, cartPod}, dst: "10.96.0.1:80",
			source: shop.Pod("door", "10.0.0.5", func(w *mesh.Workload) { w.Gateway = true }), want: toCart,
		},
		{
			name:  "1: nor for what comes out of itself",
			world: []any{consumed, waypointService, waypointPod, cartPod}, dst: "10.96.0.1:80", source: waypointPod, want: toCart,
		},
		{
			name:  "1: the service's own waypoint comes before it",
			world: []any{shop.Service("cart", "10.96.0.1", withWaypoint, consumers("gone")), waypointService, waypointPod, cartPod}, dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.96.0.1:80",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name:  "1: one of the client's namespace that is dead is not walked around",
			world: []any{consumed, waypointService, cartPod}, dst: "10.96.0.1:80", reason: ReasonNoWaypoint,
		},
		{
			name:   "1: a waypoint that is not known is not walked around",
			world:  []any{shop.Service("cart", "10.96.0.1", withWaypoint), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080))},
			dst:    "10.96.0.1:80",
			reason: ReasonNoWaypoint,
		},
		{
			name: "2: service with a waypoint in another network",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint), waypointService, gateway,
				shop.Pod("way-west", "", shop.Behind(gatewayAddr), shop.Serves("way", 15008, 15008)),
				shop.Pod("cart-west", "", shop.Behind(gatewayAddr), shop.Serves("cart", 80, 0)),
			},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.DoubleHBONE, Dial: netip.MustParseAddrPort("203.0.113.9:15009"), Target: "cart.shop.svc.cluster.local:80",
				Next: []mesh.Identity{identity("isthmus-system", "eastwest")}, Last: []mesh.Identity{identity("shop", "way")}, Picked: "east//Pod/shop/way-west",
			},
		},
		{
			name: "2: a waypoint in a network where the service has no endpoint is none of its",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint), waypointService, gateway, shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080)),
				shop.Pod("a-way-west", "", shop.Behind(gatewayAddr), shop.Serves("way", 15008, 15008)), waypointPod,
			},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.96.0.1:80",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name: "2: and if there is no other one, there is none",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint), waypointService, gateway, shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080)),
				shop.Pod("way-west", "", shop.Behind(gatewayAddr), shop.Serves("way", 15008, 15008)),
			},
			dst: "10.96.0.1:80", reason: ReasonNoWaypoint,
		},
		{
			name: "1: a waypoint's pod of another cluster in our network knows the service by its name, not by our address",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint, func(s *mesh.Service) { s.Exported = true }), waypointService, shop.Pod("cart-south", "10.0.1.1", shop.Serves("cart", 80, 8080), inCluster("south")),
				shop.Pod("way-south", "10.0.1.9", shop.Serves("way", 15008, 15008), inCluster("south")),
			},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.1.9:15008"), Target: "cart.shop.svc.cluster.local:80",
				Next: []mesh.Identity{identity("shop", "way-south"), identity("shop", "way")}, Picked: "east//Pod/shop/way-south",
			},
		},
		{
			name: "1: where the service has no endpoint of that cluster it is none of its",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint), waypointService, shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080)),
				shop.Pod("way-south", "10.0.1.9", shop.Serves("way", 15008, 15008), inCluster("south")),
			},
			dst: "10.96.0.1:80", reason: ReasonNoWaypoint,
		},
		{
			name: "5: nor does it know a pod of ours",
			world: []any{
				shop.Pod("cart", "10.0.0.1", func(w *mesh.Workload) { w.Waypoint = waypointAddr }), waypointService,
				shop.Pod("way-south", "10.0.1.9", shop.Serves("way", 15008, 15008), inCluster("south")),
			},
			dst: "10.0.0.1:9000", reason: ReasonNoWaypoint,
		},
		{
			name:  "3: endpoint here, tunnelled",
			world: []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.SANs = append(s.SANs, "spiffe://cluster.local/ns/shop/sa/old") }), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8081))},
			dst:   "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:8081",
				Next: []mesh.Identity{identity("shop", "cart"), identity("shop", "old")}, Picked: "east//Pod/shop/cart",
			},
		},
		{
			name:  "3: over IPv6",
			world: []any{shop.Service("cart", "fd00:96::1"), shop.Pod("cart", "fd00::1", shop.Serves("cart", 80, 8080))},
			dst:   "[fd00:96::1]:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("[fd00::1]:15008"), Target: "[fd00::1]:8080",
				Next: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/cart",
			},
		},
		{
			name:  "4: endpoint behind a gateway",
			world: []any{shop.Service("cart", "10.96.0.1"), gateway, shop.Pod("split", "", shop.Behind(gatewayAddr), shop.Serves("cart", 80, 0))},
			dst:   "10.96.0.1:80",
			want: Plan{
				Via: reach.DoubleHBONE, Dial: netip.MustParseAddrPort("203.0.113.9:15009"), Target: "cart.shop.svc.cluster.local:80",
				Next: []mesh.Identity{identity("isthmus-system", "eastwest")}, Last: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/split",
			},
		},
		{
			name: "4: the gateway has a name only",
			world: []any{
				shop.Service("cart", "10.96.0.1"), shop.Pod("split", "", shop.Behind(mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "isthmus-system", Hostname: "lb.example"}}), shop.Serves("cart", 80, 0)),
				shop.Pod("eastwest", "", shop.InNetwork("west"), func(w *mesh.Workload) { w.Namespace, w.Hostname = "isthmus-system", "lb.example" }),
			},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.DoubleHBONE, Dial: netip.AddrPortFrom(netip.Addr{}, 15008), Host: "lb.example", Target: "cart.shop.svc.cluster.local:80",
				Next: []mesh.Identity{identity("isthmus-system", "eastwest")}, Last: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/split",
			},
		},
		{
			name: "4: the gateway is a service",
			world: []any{
				shop.Service("cart", "10.96.0.1"), shop.Pod("split", "", shop.Behind(mesh.GatewayAddress{Hostname: shop.Key("gate"), Port: 15008}), shop.Serves("cart", 80, 0)),
				shop.Service("gate", "", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 15008, Target: 15010}} }),
				shop.Pod("gate", "203.0.113.8", shop.InNetwork("west"), shop.Serves("gate", 15008, 15010)),
			},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.DoubleHBONE, Dial: netip.MustParseAddrPort("203.0.113.8:15010"), Target: "cart.shop.svc.cluster.local:80",
				Next: []mesh.Identity{identity("shop", "gate")}, Last: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/split",
				GatewayPicked: "east//Pod/shop/gate",
			},
		},
		{
			name:  "5: pod with a waypoint",
			world: []any{shop.Pod("cart", "10.0.0.1", func(w *mesh.Workload) { w.Waypoint = waypointAddr }), waypointService, waypointPod},
			dst:   "10.0.0.1:9000",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.0.0.1:9000",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name:  "6: pod",
			world: []any{shop.Pod("cart", "10.0.0.1")},
			dst:   "10.0.0.1:9000",
			want:  Plan{Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:9000", Next: []mesh.Identity{identity("shop", "cart")}},
		},
		{
			name:  "7: pod outside the mesh",
			world: []any{shop.Pod("cart", "10.0.0.1", func(w *mesh.Workload) { w.Tunnel = mesh.TunnelNone })},
			dst:   "10.0.0.1:9000",
			want:  Plan{Via: reach.Direct, Dial: netip.MustParseAddrPort("10.0.0.1:9000")},
		},
		{
			name:  "7: service whose endpoint is outside the mesh",
			world: []any{shop.Service("cart", "10.96.0.1"), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080), func(w *mesh.Workload) { w.Tunnel = mesh.TunnelNone })},
			dst:   "10.96.0.1:80",
			want:  Plan{Via: reach.Direct, Dial: netip.MustParseAddrPort("10.0.0.1:8080"), Picked: "east//Pod/shop/cart"},
		},
		{
			name: "8: unknown address",
			dst:  "192.0.2.1:443",
			want: Plan{Via: reach.Direct, Dial: netip.MustParseAddrPort("192.0.2.1:443")},
		},
		{
			name:  "8: an address of another network means nothing here",
			world: []any{shop.Pod("cart", "10.0.0.1", shop.InNetwork("west"))},
			dst:   "10.0.0.1:80",
			want:  Plan{Via: reach.Direct, Dial: netip.MustParseAddrPort("10.0.0.1:80")},
		},
		{
			name: "1: an address in a range of a service, and its waypoint",
			world: []any{
				shop.Service("outside", "", withWaypoint, func(s *mesh.Service) {
					s.Ranges = []mesh.NetworkRange{{Network: "east", Prefix: netip.MustParsePrefix("192.0.2.0/24")}}
					s.Balance.Mode = mesh.BalancePassthrough
				}), waypointService, waypointPod,
			},
			dst: "192.0.2.1:443",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "192.0.2.1:443",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name: "6: a pod in a range of a service",
			world: []any{shop.Service("outside", "", withWaypoint, func(s *mesh.Service) {
				s.Ranges = []mesh.NetworkRange{{Network: "east", Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
			}), shop.Pod("cart", "10.0.0.1")},
			dst:  "10.0.0.1:9000",
			want: Plan{Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:9000", Next: []mesh.Identity{identity("shop", "cart")}},
		},
		{
			name: "1: a waypoint that is found by the address of its service",
			world: []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) {
				s.Waypoint = &mesh.GatewayAddress{Addr: shop.At("east", "10.96.0.9"), Port: 15008}
			}), waypointService, waypointPod, cartPod},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.96.0.1:80",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name:  "1: a waypoint that is one pod",
			world: []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Waypoint = &mesh.GatewayAddress{Addr: shop.At("east", "10.0.0.9")} }), waypointPod, cartPod},
			dst:   "10.96.0.1:80",
			want:  Plan{Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.96.0.1:80", Next: []mesh.Identity{identity("shop", "way")}},
		},
		{
			name:  "1: what comes out of that pod goes to the endpoint",
			world: []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Waypoint = &mesh.GatewayAddress{Addr: shop.At("east", "10.0.0.9")} }), waypointPod, cartPod},
			dst:   "10.96.0.1:80", source: waypointPod, want: toCart,
		},
		{
			name: "1: a waypoint that is one pod with a name instead of an address",
			world: []any{
				shop.Service("cart", "10.96.0.1", func(s *mesh.Service) {
					s.Waypoint = &mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "shop", Hostname: "way.example"}, Port: 15010}
				}), shop.Pod("way", "", func(w *mesh.Workload) { w.Hostname = "way.example" }), cartPod,
			},
			dst:  "10.96.0.1:80",
			want: Plan{Via: reach.HBONE, Dial: netip.AddrPortFrom(netip.Addr{}, 15010), Host: "way.example", Target: "10.96.0.1:80", Next: []mesh.Identity{identity("shop", "way")}},
		},
		{
			name: "1: a waypoint that is one pod of another network",
			world: []any{
				shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Waypoint = &mesh.GatewayAddress{Addr: shop.At("west", "10.0.0.9")} }), cartPod,
				shop.Pod("way", "10.0.0.9", shop.InNetwork("west")),
			},
			dst: "10.96.0.1:80", reason: ReasonNoWaypoint,
		},
		{
			name:  "1: an address as waypoint at which nobody is",
			world: []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Waypoint = &mesh.GatewayAddress{Addr: shop.At("east", "10.0.0.99")} }), cartPod},
			dst:   "10.96.0.1:80", reason: ReasonNoWaypoint,
		},
		{
			name: "2: a waypoint in another network whose gateway is not known",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint), waypointService,
				shop.Pod("way-west", "", shop.Behind(gatewayAddr), shop.Serves("way", 15008, 15008)),
				shop.Pod("cart-west", "", shop.Behind(gatewayAddr), shop.Serves("cart", 80, 0)),
			},
			dst:    "10.96.0.1:80",
			want:   Plan{Via: reach.DoubleHBONE, Target: "cart.shop.svc.cluster.local:80", Last: []mesh.Identity{identity("shop", "way")}, Picked: "east//Pod/shop/way-west"},
			reason: reach.ReasonNoGateway,
		},
		{
			name: "10: a gateway that is a service without a ready pod",
			world: []any{
				shop.Service("cart", "10.96.0.1"), shop.Pod("split", "", shop.Behind(mesh.GatewayAddress{Hostname: shop.Key("gate"), Port: 15008}), shop.Serves("cart", 80, 0)),
				shop.Service("gate", "", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 15008, Target: 15010}} }),
				shop.Pod("gate", "203.0.113.8", shop.InNetwork("west"), shop.Serves("gate", 15008, 15010), func(w *mesh.Workload) { w.Unhealthy = true }),
			},
			dst:    "10.96.0.1:80",
			want:   Plan{Via: reach.DoubleHBONE, Target: "cart.shop.svc.cluster.local:80", Last: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/split"},
			reason: reach.ReasonNoGateway,
		},
		{
			name:   "9: no endpoint",
			world:  []any{shop.Service("cart", "10.96.0.1")},
			dst:    "10.96.0.1:80",
			reason: reach.ReasonNoEndpoint,
		},
		{
			name:   "9: none left",
			world:  []any{shop.Service("cart", "10.96.0.1"), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080))},
			dst:    "10.96.0.1:80",
			avoid:  []string{"east//Pod/shop/cart"},
			reason: reach.ReasonNoEndpoint,
		},
		{
			name:  "9: passthrough",
			world: []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Balance.Mode = mesh.BalancePassthrough })},
			dst:   "10.96.0.1:80",
			want:  Plan{Via: reach.Direct, Dial: netip.MustParseAddrPort("10.96.0.1:80")},
		},
		{
			name:   "10: gateway not known",
			world:  []any{shop.Service("cart", "10.96.0.1"), shop.Pod("split", "", shop.Behind(gatewayAddr), shop.Serves("cart", 80, 0))},
			dst:    "10.96.0.1:80",
			want:   Plan{Via: reach.DoubleHBONE, Target: "cart.shop.svc.cluster.local:80", Last: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/split"},
			reason: reach.ReasonNoGateway,
		},
		{
			name:   "10: endpoint without a gateway",
			world:  []any{shop.Service("cart", "10.96.0.1"), shop.Pod("split", "", shop.InNetwork("west"), shop.Serves("cart", 80, 0))},
			dst:    "10.96.0.1:80",
			reason: reach.ReasonNoGateway,
		},
		{
			name: "1: several waypoints, by weight, and one that has none",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint, func(s *mesh.Service) {
					s.Waypoints = []mesh.WeightedWaypoint{{At: mesh.GatewayAddress{Hostname: shop.Key("old")}}, {At: mesh.GatewayAddress{Hostname: shop.Key("new")}, Weight: 1}}
				}),
				shop.Service("new", "", func(s *mesh.Service) { s.Ports = waypointService.Ports }), shop.Pod("new", "10.0.0.8", shop.Serves("new", 15008, 15008)),
				waypointService, waypointPod,
			},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.8:15008"), Target: "10.96.0.1:80",
				Next: []mesh.Identity{identity("shop", "new")}, Picked: "east//Pod/shop/new",
			},
		},
		{
			name: "1: several waypoints without weight are as none",
			world: []any{
				shop.Service("cart", "10.96.0.1", withWaypoint, func(s *mesh.Service) {
					s.Waypoints = []mesh.WeightedWaypoint{{At: mesh.GatewayAddress{Hostname: shop.Key("old")}}}
				}),
				waypointService, waypointPod,
			},
			dst: "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.96.0.1:80",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name: "1: what comes out of one of several waypoints goes to the endpoint",
			world: []any{
				shop.Service("cart", "10.96.0.1", func(s *mesh.Service) {
					s.Waypoints = []mesh.WeightedWaypoint{{At: mesh.GatewayAddress{Hostname: shop.Key("new")}, Weight: 9}, {At: *waypointAddr, Weight: 1}}
				}),
				waypointService, waypointPod, shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080)),
			},
			dst: "10.96.0.1:80", source: waypointPod,
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:8080",
				Next: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/cart",
			},
		},
		{
			name: "5: a pod's waypoint in another network cannot be named there, one here can",
			world: []any{
				shop.Pod("cart", "10.0.0.1", func(w *mesh.Workload) { w.Waypoint = waypointAddr }), waypointService, waypointPod, gateway,
				shop.Pod("a-way-west", "", shop.Behind(gatewayAddr), shop.Serves("way", 15008, 15008)),
			},
			dst: "10.0.0.1:9000",
			want: Plan{
				Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.9:15008"), Target: "10.0.0.1:9000",
				Next: []mesh.Identity{identity("shop", "way")}, Picked: waypointPod.UID,
			},
		},
		{
			name: "5: a pod's waypoint is in another network only",
			world: []any{
				shop.Pod("cart", "10.0.0.1", func(w *mesh.Workload) { w.Waypoint = waypointAddr }), waypointService, gateway,
				shop.Pod("way-west", "", shop.Behind(gatewayAddr), shop.Serves("way", 15008, 15008)),
			},
			dst: "10.0.0.1:9000", reason: ReasonNoWaypoint,
		},
		{
			name:  "3: an endpoint with a name instead of an address is asked for by the address that the name has",
			world: []any{shop.Service("cart", "10.96.0.1"), shop.Pod("cart", "", shop.Serves("cart", 80, 8080), func(w *mesh.Workload) { w.Hostname = "cart.example" })},
			dst:   "10.96.0.1:80",
			want: Plan{
				Via: reach.HBONE, Dial: netip.AddrPortFrom(netip.Addr{}, 15008), Host: "cart.example", TargetPort: 8080,
				Next: []mesh.Identity{identity("shop", "cart")}, Picked: "east//Pod/shop/cart",
			},
		},
		{
			name: "7: an endpoint outside the mesh with a name",
			world: []any{
				shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Families = mesh.FamiliesIPv4 }),
				shop.Pod("cart", "", shop.Serves("cart", 80, 8080), func(w *mesh.Workload) { w.Hostname, w.Tunnel = "cart.example", mesh.TunnelNone }),
			},
			dst:  "10.96.0.1:80",
			want: Plan{Via: reach.Direct, Dial: netip.AddrPortFrom(netip.Addr{}, 8080), Host: "cart.example", Families: mesh.FamiliesIPv4, Picked: "east//Pod/shop/cart"},
		},
		{
			name:  "9: the service has no such port",
			world: []any{shop.Service("cart", "10.96.0.1"), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080))},
			dst:   "10.96.0.1:81", reason: reach.ReasonNoPort,
		},
		{
			name: "9: no endpoint has the named port",
			world: []any{
				shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 80}} }),
				shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 90, 8080)),
			},
			dst: "10.96.0.1:80", reason: reach.ReasonNoPort,
		},
		{
			name: "9: no endpoint of the family",
			world: []any{
				shop.Service("cart", "fd00:96::1", func(s *mesh.Service) { s.Families = mesh.FamiliesIPv6 }),
				shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080)),
			},
			dst: "[fd00:96::1]:80", reason: reach.ReasonWrongFamily,
		},
		{
			name: "9: none is near enough",
			world: []any{
				shop.Service("cart", "10.96.0.1", func(s *mesh.Service) {
					s.Balance = mesh.LoadBalancing{Mode: mesh.BalanceStrict, Preference: []mesh.Scope{mesh.ScopeNode}}
				}),
				shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080), func(w *mesh.Workload) { w.Node = "other" }),
			},
			dst: "10.96.0.1:80", reason: reach.ReasonTooFar,
		},
		{
			name: "9: none is ready",
			world: []any{
				shop.Service("cart", "10.96.0.1"), shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080), func(w *mesh.Workload) { w.Unhealthy = true }),
			},
			dst: "10.96.0.1:80", reason: reach.ReasonNoEndpoint,
		},
		{
			name: "the proxy's own port on loopback",
			dst:  "127.0.0.1:15001", reason: ReasonOwnPort,
		},
		{
			name:  "a service with identities that nobody can read demands one nobody can prove",
			world: []any{shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.SANs = []string{"spiffe://x"} }), gateway, shop.Pod("split", "", shop.Behind(gatewayAddr), shop.Serves("cart", 80, 0))},
			dst:   "10.96.0.1:80",
			want: Plan{
				Via: reach.DoubleHBONE, Dial: netip.MustParseAddrPort("203.0.113.9:15009"), Target: "cart.shop.svc.cluster.local:80",
				Next: []mesh.Identity{identity("isthmus-system", "eastwest")}, Picked: "east//Pod/shop/split",
			},
		},
		{
			name:  "IPv4 in IPv6 clothes",
			world: []any{shop.Pod("cart", "10.0.0.1")},
			dst:   "[::ffff:10.0.0.1]:9000",
			want:  Plan{Via: reach.HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:9000", Next: []mesh.Identity{identity("shop", "cart")}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source := tc.source
			if source == nil {
				source = shop.Pod("client", "10.0.0.250")
			}
			avoid := directory.Out{Endpoints: map[string]struct{}{}}
			for _, uid := range tc.avoid {
				avoid.Endpoints[uid] = struct{}{}
			}
			got, refusal := Decide(shop.View(tc.world...), Source{Network: "east", Workload: source}, netip.MustParseAddrPort(tc.dst),
				Choice{Avoid: avoid, Random: func(uint64) uint64 { return 0 }})
			if (refusal == nil) != (tc.reason == "") || refusal != nil && refusal.Reason != tc.reason {
				t.Fatalf("refusal %v, want %q", refusal, tc.reason)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(Plan{}, "Service", "Endpoint", "Port", "Others", "Gateway", "Behind"), cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecideHidesServicesFromOtherNamespaces(t *testing.T) {
	s := shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.NamespaceOnly = true })
	v := shop.View(s, shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080)))
	stranger := shop.Pod("client", "10.0.0.250")
	stranger.Namespace = "elsewhere"
	plan, refusal := Decide(v, Source{Network: "east", Workload: stranger}, netip.MustParseAddrPort("10.96.0.1:80"), Choice{Random: func(uint64) uint64 { return 0 }})
	if refusal != nil || plan.Via != reach.Direct || plan.Service != nil {
		t.Errorf("a stranger gets %+v, %v", plan, refusal)
	}
}

func BenchmarkDecide(b *testing.B) {
	values := []any{shop.Service("cart", "10.96.0.1")}
	for i := range 10 {
		values = append(values, shop.Pod("cart-"+string(rune('a'+i)), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String(), shop.Serves("cart", 80, 8080)))
	}
	v, source, dst := shop.View(values...), Source{Network: "east", Workload: shop.Pod("client", "10.0.0.250")}, netip.MustParseAddrPort("10.96.0.1:80")
	choice := Choice{Random: func(n uint64) uint64 { return n / 2 }}
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := Decide(v, source, dst, choice); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

// TestDecideWaypointBehindProxy is about a waypoint whose pods leave the tunnels to the node proxy: its Service need not have the port of those.
func TestDecideWaypointBehindProxy(t *testing.T) {
	client := shop.Pod("client", "10.0.0.9")
	waypoint := shop.Service("waypoint", "10.96.0.9") // port 80 only
	cart := shop.Service("cart", "10.96.0.1", func(s *mesh.Service) {
		s.Waypoint = &mesh.GatewayAddress{Hostname: shop.Key("waypoint"), Port: mesh.HBONEPort}
	})
	for _, tc := range []struct {
		tunnel *mesh.AppTunnel
		want   string
	}{
		{nil, ""},
		{&mesh.AppTunnel{Proxy: true}, ""},
		{&mesh.AppTunnel{Proxy: true, Port: 15088}, "hbone 10.0.0.1:15008 10.96.0.1:80"},
	} {
		pod := shop.Pod("waypoint-0", "10.0.0.1", shop.Serves("waypoint", 80, 8080), func(w *mesh.Workload) { w.AppTunnel = tc.tunnel })
		p, refusal := Decide(shop.View(client, waypoint, cart, pod), Source{Network: "east", Workload: client}, netip.MustParseAddrPort("10.96.0.1:80"),
			Choice{Random: func(uint64) uint64 { return 0 }})
		got := ""
		if refusal == nil {
			got = p.Via.String() + " " + p.Dial.String() + " " + p.Target
		}
		if got != tc.want {
			t.Errorf("%+v: %q, %v; want %q", tc.tunnel, got, refusal, tc.want)
		}
	}
}
