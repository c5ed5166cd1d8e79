// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestPodInSeveralSlices: a pod that several slices of a service name has the ports of all, where they differ those of the first by name, and the other pods of these slices have not.
func TestPodInSeveralSlices(t *testing.T) {
	east := func(name string) world.Key { return world.Key{Cluster: "east", Namespace: "demo", Name: name} }
	d := world.NewDelta()
	d.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "demo"}})
	for _, service := range []string{"cart", "stock"} {
		d.Put(&world.Service{Key: east(service), Ports: []world.ServicePort{{Name: "grpc", Port: 90}, {Name: "http", Port: 80}}})
	}
	for i, pod := range []string{"both", "first", "second"} {
		d.Put(&world.Pod{Key: east(pod), Captured: true, Ready: true, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}})
	}
	d.Put(&world.EndpointSlice{
		Key: east("a"), Service: "cart", Ports: []world.EndpointPort{{Name: "http", Port: 8080}},
		Endpoints: []world.Endpoint{{Pod: "both"}, {Pod: "first"}, {Pod: "both"}},
	})
	d.Put(&world.EndpointSlice{
		Key: east("b"), Service: "cart", Ports: []world.EndpointPort{{Name: "http", Port: 8081}, {Name: "grpc", Port: 9091}},
		Endpoints: []world.Endpoint{{Pod: "second"}, {Pod: "both"}},
	})
	d.Put(&world.EndpointSlice{Key: east("c"), Service: "stock", Ports: []world.EndpointPort{{Name: "http", Port: 8082}}, Endpoints: []world.Endpoint{{Pod: "both"}}})
	out := agreeing(t)(d)
	x := newIndex(testConfig)
	cart, stock := x.serviceKey(serviceName{"demo", "cart"}), x.serviceKey(serviceName{"demo", "stock"})
	for pod, want := range map[string]map[mesh.ServiceKey][]mesh.Port{
		"both":   {cart: {{Service: 80, Target: 8080}, {Service: 90, Target: 9091}}, stock: {{Service: 80, Target: 8082}}},
		"first":  {cart: {{Service: 80, Target: 8080}}},
		"second": {cart: {{Service: 80, Target: 8081}, {Service: 90, Target: 9091}}},
	} {
		got := out.Mesh.Workloads["east//Pod/demo/"+pod].Services
		if len(got) != len(want) || !slices.Equal(got[cart], want[cart]) || !slices.Equal(got[stock], want[stock]) {
			t.Errorf("%s is behind %v, want %v", pod, got, want)
		}
	}
}
