// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestDatagramsFollowTheirEndpoints changes, one after the other, all that decides where a UDPRoute's datagrams go, and demands after each change that
// the Engine says what Build says, and the number of endpoints that it comes to.
func TestDatagramsFollowTheirEndpoints(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/udp-routes.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var moves []move
	var want []int
	objects := read(t, archive)
	for _, o := range objects {
		moves = append(moves, move{ref: o.Ref(), put: o})
	}
	find := func(kind world.Kind, name string) world.Object {
		at := slices.IndexFunc(objects, func(o world.Object) bool {
			return o.Ref() == world.ObjectRef{Kind: kind, Key: world.Key{Cluster: "east", Namespace: "demo", Name: name}}
		})
		if at < 0 {
			t.Fatalf("the story has no %s %s", kind, name)
		}
		return objects[at]
	}
	then := func(endpoints int, o world.Object) {
		want = append(want, endpoints)
		moves = append(moves, move{step: len(want), ref: o.Ref(), put: o})
	}
	a, b := find(world.KindPod, "a").(*world.Pod), *find(world.KindPod, "b").(*world.Pod)
	service, slice := find(world.KindService, "dns").(*world.Service), find(world.KindEndpointSlice, "dns-1").(*world.EndpointSlice)
	b.Ready = true
	then(3, &b)
	leaving := *a
	leaving.Deleting = true
	then(2, &leaving)
	eager := *service
	eager.NotReady = true
	then(4, &eager) // with the one that is no pod and not ready
	then(2, service)
	odd := *slice
	odd.UDPPorts = []world.EndpointPort{{Name: "other", Port: 5353}}
	then(0, &odd)
	then(2, slice)
	moved := *service
	moved.UDPPorts = []world.ServicePort{{Name: "dns", Port: 54}}
	then(0, &moved) // the route has no port any more
	six := *service
	six.Families = 2
	then(0, &six)
	then(2, service)
	then(3, a)
	agree(t, moves)
	engine := NewEngine(testConfig)
	for i, d := range deltas(moves) {
		engine.Apply(d)
		if i == 0 {
			continue
		}
		got := 0
		for _, g := range engine.Output().Mesh.Gateways {
			for _, l := range g.Listeners {
				if l.Name == "dns" && l.Stream != nil && l.Stream.Name == "dns" {
					got = len(l.Stream.Backends[0].Endpoints)
				}
			}
		}
		if got != want[i-1] {
			t.Errorf("after change %d of what datagrams depend on there are %d endpoints, want %d", i, got, want[i-1])
		}
	}
}
