// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// What a waypoint is told of the routes in a story: those of a port with those of every port, and those of consumers apart. Hostnames are left out, and only consumers
// need anybody's leave.
func TestServiceRoutes(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/service-routes.txtar")
	if err != nil {
		t.Fatal(err)
	}
	d := world.NewDelta()
	for _, o := range read(t, archive) {
		d.Put(o)
	}
	x := newIndex(testConfig)
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassWaypoint}, Controller: ControllerName})
	for _, namespace := range []string{"shop", "third"} {
		d.Put(&world.Gateway{
			Key: world.Key{Cluster: "east", Namespace: namespace, Name: AutomaticWaypoint}, Class: ClassWaypoint, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE}},
		})
	}
	x.fold(d, newTouched())
	for n := range x.clustersOf {
		x.foldBound(n, bound{}, x.answer(n).behind)
	}
	var got []string
	for _, of := range x.serviceRoutes(world.Key{Cluster: "east", Namespace: "shop", Name: AutomaticWaypoint}) {
		line := fmt.Sprintf("%s:%d for %q", of.Service.Hostname, of.Port, of.Consumer)
		for _, r := range of.Routes {
			line += fmt.Sprintf(" %s/%s%v", r.Namespace, r.Name, r.Hostnames)
			for _, b := range r.Rules[0].Backends {
				line += ">" + printBackend(&b)
			}
		}
		got = append(got, line)
	}
	want := []string{
		`cart.shop.svc.cluster.local:80 for "" shop/producer[]>cart.shop.svc.cluster.local:80>pay.other.svc.cluster.local:80`,
		`cart.shop.svc.cluster.local:80 for "other" other/deputy[]>cart.shop.svc.cluster.local:81>pay.other.svc.cluster.local:80>500>open.third.svc.cluster.local:80`,
		`cart.shop.svc.cluster.local:81 for "" shop/admin[]>cart.shop.svc.cluster.local:81 shop/producer[]>cart.shop.svc.cluster.local:80>pay.other.svc.cluster.local:80`,
		`cart.shop.svc.cluster.local:81 for "other" other/consumer[]>500`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if others := x.serviceRoutes(world.Key{Cluster: "east", Namespace: "third", Name: AutomaticWaypoint}); len(others) > 0 {
		t.Errorf("another namespace's waypoint is told of %v", others)
	}
}

// What waypoints are told is in the order that they look it up by: hostnames' order is not that of names.
func TestFrontsAreSorted(t *testing.T) {
	d := world.NewDelta()
	d.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: testConfig.SystemNamespace}, Labels: map[string]string{world.LabelNetwork: "east"}})
	d.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "demo"}, Labels: map[string]string{world.LabelUseWaypoint: "w"}})
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassWaypoint}, Controller: ControllerName})
	d.Put(&world.Gateway{
		Key: world.Key{Cluster: "east", Namespace: "demo", Name: "w"}, Class: ClassWaypoint, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE}},
		Status: []world.GatewayAddress{{Type: addressIP, Value: "10.96.1.1"}},
	})
	for _, name := range []string{"cart", "cart-v2", "cart1"} {
		d.Put(&world.Service{Key: world.Key{Cluster: "east", Namespace: "demo", Name: name}, Ports: []world.ServicePort{{Name: "http", Port: 80, Target: 8080}}})
	}
	state := world.NewState()
	state.Apply(d)
	fronts := Build(state, testConfig).Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "w"}].Fronts
	if len(fronts) != 3 || !slices.IsSortedFunc(fronts, mesh.CompareServiceKeys) {
		t.Errorf("fronts are %v", fronts)
	}
}
