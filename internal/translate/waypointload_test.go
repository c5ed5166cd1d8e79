// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// loadedWaypoint is what a waypoint in namespace shop knows of two Services of its namespace, each with routes of the owner and of other namespaces that come in any order.
func loadedWaypoint(seed uint64, most int) (told []string, left map[string]string, engine *Engine) {
	east := func(namespace, name string) world.Key {
		return world.Key{Cluster: "east", Namespace: namespace, Name: name}
	}
	objects := []world.Object{
		&world.GatewayClass{Key: east("", ClassWaypoint), Controller: ControllerName},
		&world.Namespace{Key: east("", "shop"), Labels: map[string]string{world.LabelUseWaypoint: "w"}},
		&world.Gateway{Key: east("shop", "w"), Class: ClassWaypoint, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE}},
			Status: []world.GatewayAddress{{Type: addressIP, Value: "10.0.0.9"}}},
	}
	for _, service := range []string{"cart", "bank"} {
		objects = append(objects, &world.Service{Key: east("shop", service), Ports: []world.ServicePort{{Name: "http", Port: 80}}})
		for namespace, n := range map[string]int{"shop": 4, "greedy": 20, "modest": 2} {
			for i := range n {
				name, port := fmt.Sprintf("%s-%02d", service, i), gatewayv1.PortNumber(80)
				objects = append(objects, &world.HTTPRoute{
					Key: east(namespace, name), Created: int64(100 - i), Parents: []world.RouteParent{{Kind: "Service", Namespace: "shop", Name: service}},
					Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
						BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(strings.Repeat("x", 50)), Port: &port},
					}}}}},
				})
			}
		}
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	rng.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	engine = NewEngine(testConfig)
	engine.x.maxLoad = most
	for _, o := range objects {
		d := world.NewDelta()
		d.Put(o)
		engine.Apply(d)
	}
	out := engine.Output()
	for _, of := range out.Mesh.Gateways[mesh.GatewayKey{Namespace: "shop", Name: "w"}].ServiceRoutes {
		for _, r := range of.Routes {
			told = append(told, r.Key().String())
		}
	}
	slices.Sort(told)
	left = map[string]string{}
	for ref, all := range out.Findings {
		for _, f := range all {
			if f.Type == routeAccepted && f.Status == isFalse && strings.HasSuffix(string(ref.Kind), "Route") {
				left[ref.Namespace+"/"+ref.Name] = f.Reason
			}
		}
	}
	return told, left, engine
}

// What a waypoint is told of routes is bounded. The Services' own come first, then others by their shares, of which those that want little have all; and who is left out is told so.
func TestWaypointIsNotOverloaded(t *testing.T) {
	told, left, engine := loadedWaypoint(1, maxWaypointLoad)
	if len(told) != 52 || len(left) != 0 {
		t.Fatalf("%d routes are told, %d left out, want all 52", len(told), len(left))
	}
	each := 0
	for n := range engine.x.attached {
		for _, a := range engine.x.attachments(n).all {
			each = max(each, engine.x.load(a))
		}
	}
	for room, want := range map[int]string{
		51: "greedy 39 modest 4 shop 8", 30: "greedy 18 modest 4 shop 8", 14: "greedy 3 modest 3 shop 8", 8: "shop 8", 5: "shop 5",
	} {
		told, left, engine := loadedWaypoint(1, room*each)
		count := map[string]int{}
		for _, r := range told {
			namespace, _, _ := strings.Cut(r, "/")
			count[namespace]++
			if left[r] != "" {
				t.Errorf("room for %d: %s is told, and left out", room, r)
			}
		}
		var got []string
		for _, namespace := range slices.Sorted(maps.Keys(count)) {
			got = append(got, fmt.Sprint(namespace, " ", count[namespace]))
		}
		if strings.Join(got, " ") != want || len(told)+len(left) != 52 {
			t.Errorf("room for %d: %v, and %d are told that they are left out; want %s", room, got, len(left), want)
		}
		for r, reason := range left {
			if reason != ReasonTooMany {
				t.Errorf("room for %d: %s has reason %s", room, r, reason)
			}
		}
		if room == 30 && left["greedy/cart-19"]+left["greedy/bank-19"] != "" {
			t.Error("the oldest of a namespace is left out")
		}
		for seed := range uint64(3) {
			again, _, other := loadedWaypoint(seed+2, room*each)
			if diff := cmp.Diff(told, again); diff != "" {
				t.Errorf("room for %d: in another order (-want +got):\n%s", room, diff)
			}
			if diff := cmp.Diff(engine.Output().Findings, other.Output().Findings, byValue...); diff != "" {
				t.Errorf("room for %d: in another order (-want +got):\n%s", room, diff)
			}
		}
	}
	if places := maxWaypointLoad / placeLoad; places > 65536/2 {
		t.Errorf("a waypoint may be told of %d places: the wire takes 65536", places)
	}
}
