// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

// Clusters may be behind one address or name, each at a port of its own: who is at one of them is not asked for the identity of another one. A cluster could otherwise have nobody
// believe another one's gateway, by having one of its own at the same place.
func TestGatewaysAtOneAddressProveThemselves(t *testing.T) {
	gateway := func(account, network, address string, port uint16) *mesh.Workload {
		w := shop.Pod(account, "", shop.InNetwork(network))
		w.UID, w.Namespace, w.Tunnel = mesh.GatewayUID(network, address, port), "isthmus-system", mesh.TunnelNone
		if addr, err := netip.ParseAddr(address); err == nil {
			w.Addresses = []netip.Addr{addr}
		} else {
			w.Hostname = address
		}
		return w
	}
	byAddress := func(port uint16) mesh.GatewayAddress {
		return mesh.GatewayAddress{Addr: shop.At("west", "203.0.113.9"), Port: port}
	}
	byName := func(port uint16) mesh.GatewayAddress {
		return mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "isthmus-system", Hostname: "lb.example.com"}, Port: port}
	}
	for _, tc := range []struct {
		name     string
		gateways []*mesh.Workload
		at       mesh.GatewayAddress
		want     string
	}{
		{"the one of the port", []*mesh.Workload{gateway("first", "west", "203.0.113.9", 1), gateway("usual", "west", "203.0.113.9", 15008)}, byAddress(15008), "usual"},
		{"and the other one", []*mesh.Workload{gateway("first", "west", "203.0.113.9", 1), gateway("usual", "west", "203.0.113.9", 15008)}, byAddress(1), "first"},
		{"no port is the usual one", []*mesh.Workload{gateway("first", "west", "203.0.113.9", 1), gateway("usual", "west", "203.0.113.9", 15008)}, byAddress(0), "usual"},
		{"by name", []*mesh.Workload{gateway("first", "west", "lb.example.com", 1), gateway("usual", "west", "lb.example.com", 15008)}, byName(15008), "usual"},
		{"a name of two networks", []*mesh.Workload{gateway("other", "dmz", "lb.example.com", 15008), gateway("usual", "west", "lb.example.com", 15008)}, byName(15008), "usual"},
		{"istiod's, which say no port", []*mesh.Workload{gateway("other", "dmz", "lb.example.com", 0), gateway("usual", "west", "lb.example.com", 0)}, byName(15008), "usual"},
		{"one that is called otherwise", []*mesh.Workload{gateway("usual", "west", "203.0.113.9", 2)}, byAddress(15008), "usual"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			split := shop.Pod("split", "", shop.Behind(tc.at), shop.Serves("cart", 80, 0))
			values := []any{shop.Service("cart", "10.96.0.1"), split}
			for _, g := range tc.gateways {
				values = append(values, g)
			}
			from := From{View: shop.View(values...), Network: "east"}
			plan, refusal := from.ThroughGateway(split, shop.Service("cart", "10.96.0.1"), 80, nil)
			if refusal != nil {
				t.Fatal(refusal)
			}
			if diff := cmp.Diff([]mesh.Identity{{TrustDomain: "cluster.local", Namespace: "isthmus-system", ServiceAccount: tc.want}}, plan.Next); diff != "" {
				t.Errorf("who is to answer at %v (-want +got):\n%s", tc.at, diff)
			}
		})
	}
}
