// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestRoutesAtAServiceAreBounded: of one namespace only the oldest count, at however many ports, and the others say so; other namespaces lose nothing by them, the Service's own least of all.
func TestRoutesAtAServiceAreBounded(t *testing.T) {
	cart := world.Key{Cluster: "east", Namespace: "shop", Name: "cart"}
	waypoint := &world.Gateway{
		Key: cart.In("shop", AutomaticWaypoint), Class: ClassWaypoint, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE}},
		Status: []world.GatewayAddress{{Type: addressIP, Value: "10.96.0.2"}},
	}
	moves := []move{
		{put: &world.GatewayClass{Key: cart.In("", ClassWaypoint), Controller: ControllerName}},
		{put: waypoint},
		{put: &world.Service{Key: cart, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []world.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}}}},
	}
	route := func(namespace, name string, created int64, step int) world.ObjectRef {
		r := &world.HTTPRoute{Key: cart.In(namespace, name), Created: created, Rules: []gatewayv1.HTTPRouteRule{{}}}
		for _, port := range []uint16{80, 81} {
			r.Parents = append(r.Parents, world.RouteParent{Kind: "Service", Namespace: cart.Namespace, Name: cart.Name, Port: port})
		}
		moves = append(moves, move{step: step, put: r})
		return r.Ref()
	}
	own, other := route("shop", "own", 999, 0), route("other", "r", 999, 0)
	var many []world.ObjectRef
	for i := range maxRoutesAt + 3 { // the younger, the earlier by name
		many = append(many, route("many", fmt.Sprintf("r%03d", 999-i), int64(i), 0))
	}
	moves = append(moves, move{step: 1, ref: many[5]}) // one that counts goes: the next one does
	for i := range moves {
		if moves[i].put != nil {
			moves[i].ref = moves[i].put.Ref()
		}
	}
	agree(t, moves)

	for _, gone := range []bool{false, true} {
		d := world.NewDelta()
		for _, m := range moves {
			if m.put != nil && (!gone || m.ref != many[5]) {
				d.Put(m.put)
			}
		}
		state := world.NewState()
		state.Apply(d)
		out := Build(state, testConfig)
		told := 0
		for _, g := range out.Mesh.Gateways {
			for _, of := range g.ServiceRoutes {
				told += len(of.Routes)
			}
		}
		if want := maxRoutesAt + 2; told != want {
			t.Errorf("the waypoint is told of %d routes, not of %d", told, want)
		}
		accepted := func(ref world.ObjectRef, want bool) {
			t.Helper()
			n := 0
			for _, f := range out.Findings[ref] {
				if f.Type != routeAccepted {
					continue
				}
				n++
				if got := f.Status == isTrue; got != want || !want && (f.Reason != ReasonTooMany || !strings.Contains(f.Message, "more than 256 routes at Service shop/cart")) {
					t.Errorf("%s: %+v", ref.Name, f)
				}
			}
			if n != 2 {
				t.Errorf("%s: %d conditions", ref.Name, n)
			}
		}
		accepted(own, true)
		accepted(other, true)
		accepted(many[maxRoutesAt-1], true)
		accepted(many[maxRoutesAt], gone)
		accepted(many[maxRoutesAt+1], false)
		accepted(many[maxRoutesAt+2], false)
	}
}
