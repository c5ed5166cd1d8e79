// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// large is a world of two clusters with a number of global services of 100 pods each, in each of them.
func large(services int) world.Delta {
	d := world.NewDelta()
	for _, c := range []world.Cluster{"east", "west"} {
		d.Put(&world.Namespace{Key: world.Key{Cluster: c, Name: "isthmus-system"}, Labels: map[string]string{world.LabelNetwork: string(c)}})
		d.Put(&world.Namespace{Key: world.Key{Cluster: c, Name: "demo"}})
		d.Put(&world.ServiceScope{Key: world.Key{Cluster: c, Name: "default"}, Entries: []world.ScopeEntry{{Scope: "GLOBAL"}}})
		d.Put(&world.Gateway{
			Key: world.Key{Cluster: c, Namespace: "isthmus-system", Name: "gw"}, Class: ClassEastWest,
			Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE, HasTLS: true, TLSMode: tlsTerminate}},
			Status:    []world.GatewayAddress{{Type: addressIP, Value: "203.0.113.9"}},
		})
		for i := range services {
			s := &world.Service{Key: world.Key{Cluster: c, Namespace: "demo", Name: fmt.Sprintf("s%d", i)}, Ports: []world.ServicePort{{Name: "http", Port: 80, App: mesh.AppHTTP11}}}
			e := &world.EndpointSlice{Key: s.Key, Service: s.Name, Ports: []world.EndpointPort{{Name: "http", Port: 8080}}}
			for j := range 100 {
				p := largePod(c, i, j, true)
				e.Endpoints = append(e.Endpoints, world.Endpoint{Pod: p.Name})
				d.Put(p)
			}
			d.Put(s)
			d.Put(e)
		}
	}
	return d
}

func largePod(c world.Cluster, service, n int, ready bool) *world.Pod {
	return &world.Pod{
		Key:  world.Key{Cluster: c, Namespace: "demo", Name: fmt.Sprintf("s%d-%d", service, n)},
		Node: "n1", ServiceAccount: "demo", Ready: ready, Captured: true,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(service >> 8), byte(service), byte(n)})},
	}
}

// flip is one pod of a cluster that becomes ready or stops being so.
func flip(c world.Cluster, i int) world.Delta {
	d := world.NewDelta()
	d.Put(largePod(c, 3, 42, i%2 == 0))
	return d
}

// BenchmarkApply is the work for one pod's readiness in a world of 100 000 pods, and in one of 2000 for comparison: it must
// not depend on the size of the world.
func BenchmarkApply(b *testing.B) {
	for _, services := range []int{10, 500} {
		for _, c := range []world.Cluster{"east", "west"} {
			b.Run(fmt.Sprintf("pods=%d/changed-in=%s", services*200, c), func(b *testing.B) {
				engine := NewEngine(testConfig)
				engine.Apply(large(services))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					i++
					engine.Apply(flip(c, i))
				}
			})
		}
	}
}

// BenchmarkBuild is the same from scratch.
func BenchmarkBuild(b *testing.B) {
	state := world.NewState()
	state.Apply(large(500))
	for b.Loop() {
		Build(state, testConfig)
	}
}

// TestApplyWorkIsProportional pins that by a count that does not depend on the machine: what is allocated.
func TestApplyWorkIsProportional(t *testing.T) {
	allocations := func(services int, c world.Cluster) float64 {
		engine := NewEngine(testConfig)
		engine.Apply(large(services))
		i := 0
		return testing.AllocsPerRun(50, func() {
			i++
			if change := engine.Apply(flip(c, i)); change.Mesh.Len() != 1 {
				t.Fatalf("a pod's readiness changed %d values of the mesh, want 1", change.Mesh.Len())
			}
		})
	}
	for _, c := range []world.Cluster{"east", "west"} {
		small, big := allocations(5, c), allocations(50, c)
		if big > small*1.1+5 {
			t.Errorf("a pod's readiness in %s costs %.0f allocations among 1000 pods and %.0f among 10000", c, small, big)
		}
	}
}

// TestExcessCostsNothing is about a cluster that offers more services than its limits let in: a change of one that is kept out must not
// cost more the more of them there are.
func TestExcessCostsNothing(t *testing.T) {
	allocations := func(services, most int) float64 {
		engine := NewEngine(testConfig)
		engine.Apply(large(services))
		limits := world.NewDelta()
		limits.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: "west"}, ID: "west", MaxServices: most, MaxEndpoints: 1 << 20})
		engine.Apply(limits)
		i := 0
		return testing.AllocsPerRun(50, func() {
			d := world.NewDelta()
			if pod := largePod("west", 3, 42, true); i%2 == 0 {
				d.Delete(pod.Ref())
			} else {
				d.Put(pod)
			}
			i++
			if change := engine.Apply(d); !change.Empty() {
				t.Fatalf("a pod of a service that is kept out changed %+v", change)
			}
		})
	}
	for _, most := range []int{0, 2} { // s0 and s1 are let in; s3 is kept out
		small, big := allocations(5, most), allocations(50, most)
		if big > small*1.1+5 {
			t.Errorf("with %d services let in, it costs %.0f allocations where 5 are offered and %.0f where 50 are", most, small, big)
		}
	}
}
