// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

// TestNetworksOfOneCluster has pods of one cluster, and of one proxy, on two networks: what is near one of them is behind a gateway for the other. Both
// dial the same cluster IP, and a third address is that of two pods, one on each network.
func TestNetworksOfOneCluster(t *testing.T) {
	x := &Proxy{o: Options{Network: "east"}}
	on := func(network string) func(*mesh.Workload) { return func(w *mesh.Workload) { w.Network = network } }
	front := func(network, address string) *mesh.Workload {
		return shop.Pod("gw-"+network, address, on(network), func(w *mesh.Workload) { w.UID, w.Tunnel = "NetworkGateway/"+network, mesh.TunnelNone })
	}
	stands := func(network, address string) *mesh.Workload {
		return shop.Pod("split-"+network, "", on(network), shop.Serves("cart", 80, 8080), func(w *mesh.Workload) {
			w.NetworkGateway = &mesh.GatewayAddress{Addr: shop.At(network, address), Port: 15008}
		})
	}
	alice, bob := shop.Pod("alice", "10.0.0.9"), shop.Pod("bob", "10.0.0.9", on("dmz"))
	v := shop.View(alice, bob,
		shop.Pod("cart-east", "10.0.0.1", shop.Serves("cart", 80, 8080)), shop.Pod("cart-dmz", "10.0.0.1", on("dmz"), shop.Serves("cart", 80, 8080)),
		front("east", "203.0.113.1"), front("dmz", "203.0.113.2"), stands("east", "203.0.113.1"), stands("dmz", "203.0.113.2"),
		shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Addresses = append(s.Addresses, shop.At("dmz", "10.96.0.1")) }))
	for _, tc := range []struct {
		name   string
		source *mesh.Workload
		dst    string
		tried  []string // UIDs
		via    reach.Via
		dial   string
		picked string
	}{
		{"near the first", alice, "10.96.0.1:80", []string{"east//Pod/shop/split-dmz"}, reach.HBONE, "10.0.0.1:15008", "east//Pod/shop/cart-east"},
		{"near the second", bob, "10.96.0.1:80", []string{"east//Pod/shop/split-east"}, reach.HBONE, "10.0.0.1:15008", "east//Pod/shop/cart-dmz"},
		{"from the first to the second", alice, "10.96.0.1:80", []string{"east//Pod/shop/cart-east"}, reach.DoubleHBONE, "203.0.113.2:15008", "east//Pod/shop/split-dmz"},
		{"from the second to the first", bob, "10.96.0.1:80", []string{"east//Pod/shop/cart-dmz"}, reach.DoubleHBONE, "203.0.113.1:15008", "east//Pod/shop/split-east"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			avoid := directory.Out{Endpoints: map[string]struct{}{}}
			for _, uid := range tc.tried {
				avoid.Endpoints[uid] = struct{}{}
			}
			for n := range uint64(4) { // whatever chance says
				plan, refusal := Decide(v, Source{Network: x.networkOf(tc.source), Workload: tc.source}, netip.MustParseAddrPort(tc.dst), Choice{
					Avoid: avoid, Random: func(most uint64) uint64 { return n % most },
				})
				if refusal != nil {
					t.Fatal(refusal.Err)
				}
				if plan.Via != tc.via || plan.Dial.String() != tc.dial || plan.Endpoint == nil || plan.Endpoint.UID != tc.picked {
					t.Fatalf("goes %v to %v (%v), want %v to %s (%s)", plan.Via, plan.Dial, plan.Endpoint, tc.via, tc.dial, tc.picked)
				}
			}
		})
	}
	direct, refusal := Decide(v, Source{Network: x.networkOf(bob), Workload: bob}, netip.MustParseAddrPort("10.0.0.1:8080"), Choice{})
	if refusal != nil || len(direct.Next) != 1 || direct.Next[0].ServiceAccount != "cart-dmz" {
		t.Errorf("an address on two networks leads bob to %v (%v), want cart-dmz alone", direct.Next, refusal)
	}
	if x.networkOf(nil) != "east" {
		t.Errorf("a pod that is not known is on %q", x.networkOf(nil))
	}
}
