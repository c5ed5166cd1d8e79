// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestClaimsByAge: of two clusters on our network with a pod at one address each the one is believed that was linked first, also when that becomes the other one. A pod on a network of its own
// may have any address, such as one of a Service of ours.
func TestClaimsByAge(t *testing.T) {
	apply := agreeing(t)
	linked := func(d world.Delta, c world.Cluster, created int64) {
		d.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: string(c)}, ID: c, Created: created, MaxServices: 100, MaxEndpoints: 1000})
	}
	d := large(1)
	d.Put(&world.Service{Key: world.Key{Cluster: "east", Namespace: "demo", Name: "front"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: []world.ServicePort{{Name: "http", Port: 80}}})
	for i, c := range []world.Cluster{"north", "south"} {
		linked(d, c, int64(i+1))
		d.Put(&world.Namespace{Key: world.Key{Cluster: c, Name: "isthmus-system"}, Labels: map[string]string{world.LabelNetwork: "east"}})
		d.Put(&world.Pod{Key: world.Key{Cluster: c, Namespace: "demo", Name: "a"}, Captured: true, Ready: true, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.1")}})
	}
	linked(d, "west", 3)
	check := func(o Output, north, south int) {
		t.Helper()
		for c, want := range map[world.Cluster]int{"north": north, "south": south, "west": 0} { // a pod of west is at 10.0.0.1
			if got := o.Remotes[c].RefusedPods; got != want {
				t.Errorf("%d pods of %s are refused, want %d", got, c, want)
			}
		}
	}
	check(apply(d), 0, 1)
	d = world.NewDelta()
	linked(d, "north", 4)
	check(apply(d), 1, 0)
}
