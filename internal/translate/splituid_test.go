// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestDoorsHaveNamesOfTheirOwn: an address of IPv6 may end like one with a port behind it, and Gateways of two clusters on one network may have one name.
func TestDoorsHaveNamesOfTheirOwn(t *testing.T) {
	service := &mesh.Service{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}
	seen := map[string]string{}
	for _, at := range []string{"[fd00::1]:15008", "[fd00::1]:1500", "[fd00::1:1500]:15008", "[fd00::1:1500]:1500", "203.0.113.9:15008", "203.0.113.9:1500"} {
		where := netip.MustParseAddrPort(at)
		d := door{gateway: world.Key{Cluster: "west", Namespace: "isthmus-system", Name: "gw"}, network: "w", address: where.Addr().String(), addr: where.Addr(), port: where.Port()}
		uid := d.splitUID(service)
		if other, taken := seen[uid]; taken {
			t.Errorf("what is behind %s and behind %s is %s", at, other, uid)
		}
		seen[uid] = at
	}
	for uid, at := range map[string]string{ // as istiod has it, at its port
		"w/SplitHorizonWorkload/isthmus-system/gw/fd00::1/shop/cart.shop.svc.cluster.local":          "[fd00::1]:15008",
		"w/SplitHorizonWorkload/isthmus-system/gw/203.0.113.9:1500/shop/cart.shop.svc.cluster.local": "203.0.113.9:1500",
	} {
		if seen[uid] != at {
			t.Errorf("%s is %q, want %s", uid, seen[uid], at)
		}
	}
}

// TestHostnameThatIsAnAddress: a Gateway at a hostname that looks like an address, with a port or not, is no door. It would be told under the name of one at that address, which may be another
// cluster's.
func TestHostnameThatIsAnAddress(t *testing.T) {
	for _, hostname := range []string{"203.0.113.9", "203.0.113.9:15008", "fd00::9", "a/b", ""} {
		d := large(1)
		for i, c := range []world.Cluster{"west", "mallory"} {
			d.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: string(c)}, ID: c, Created: int64(i + 1), MaxServices: 100, MaxEndpoints: 1000})
			d.Put(&world.Namespace{Key: world.Key{Cluster: c, Name: "isthmus-system"}, Labels: map[string]string{world.LabelNetwork: "west"}})
		}
		g := tunnels(world.Key{Cluster: "mallory", Namespace: "isthmus-system", Name: "gw"}, 1, "")
		g.Status = []world.GatewayAddress{{Type: addressHostname, Value: hostname}}
		d.Put(g)
		e := NewEngine(testConfig)
		e.Apply(d)
		for uid, w := range e.Output().Mesh.Workloads {
			if w.Cluster == "mallory" {
				t.Errorf("hostname %q: mallory's gateway is told as %s", hostname, uid)
			}
		}
		if w := e.Output().Mesh.Workloads[mesh.GatewayUID("west", "203.0.113.9", mesh.HBONEPort)]; w == nil || w.Cluster != "west" {
			t.Errorf("hostname %q: west's gateway is told as %+v", hostname, w)
		}
	}
}
