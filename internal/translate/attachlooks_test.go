// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"reflect"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestListenersThatRoutesAreLookedForAt: all listeners of all parents are looked at for each route whenever any changes, so that of the routes of one namespace only the oldest are, and
// those of another namespace, or with a parent that names its listener, are served as before.
func TestListenersThatRoutesAreLookedForAt(t *testing.T) {
	const sets, listeners, routes, served = 4, 8, 20, 10
	all := string(gatewayv1.NamespacesFromAll)
	var objects []world.Object
	put := func(o world.Object) { objects = append(objects, o) }
	put(&world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, SetsFrom: all, Listeners: []world.Listener{{Name: "own", Port: 80, Protocol: protocolHTTP, Hostname: "own.example.com", RoutesFrom: all}}})
	var parents []world.RouteParent
	for i := range sets {
		of := &world.ListenerSet{Key: world.Key{Cluster: "east", Namespace: "mallory", Name: fmt.Sprint("set", i)}, Created: int64(i + 1), Gateway: inDemo("gw")}
		for j := range listeners {
			l := hostNumbered(listeners*i + j)
			l.Name = fmt.Sprint("l", j)
			of.Listeners = append(of.Listeners, l)
		}
		put(of)
		parents = append(parents, world.RouteParent{Group: gatewayv1.GroupName, Kind: "ListenerSet", Namespace: "mallory", Name: of.Name})
	}
	s := newUnreadScene(t)
	tenants := func(i int) *world.HTTPRoute {
		r := s.route(fmt.Sprint("r", i), "cart")
		r.Namespace, r.Created, r.Parents = "mallory", int64(100+i), parents
		return r
	}
	for i := range routes {
		put(tenants(i))
	}
	other := s.route("other", "cart")
	other.Created, other.Parents = 900, atLaden()
	put(other)
	check := func(s *unreadScene) {
		t.Helper()
		places := 0
		for _, l := range s.Output().Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "gw"}].Listeners {
			for _, r := range l.Routes {
				if r.Namespace == "mallory" {
					places++
				}
			}
		}
		if places != served*sets*listeners {
			t.Errorf("%d places, want those of %d routes", places, served)
		}
		for i := range routes {
			for _, f := range s.Output().Findings[tenants(i).Ref()] {
				if f.Type == routeAccepted && (f.Status == isTrue) != (i < served) || f.Type == routeAccepted && i >= served && f.Reason != ReasonTooMany {
					t.Errorf("route %d is told %+v", i, f)
				}
			}
		}
		if f := s.Output().Findings[other.Ref()][0]; f.Status != isTrue {
			t.Errorf("another namespace's is told %+v", f)
		}
	}
	s.x.maxLooks = served*sets*listeners + 1
	for _, o := range objects {
		s.put(o)
	}
	check(s)
	// As it came does not matter.
	fresh := newUnreadScene(t)
	fresh.x.maxLooks = s.x.maxLooks
	fresh.put(objects...)
	check(fresh)
	if !reflect.DeepEqual(s.Output().Findings, fresh.Output().Findings) {
		t.Error("what came one by one is not what came at once")
	}
	// One that names its listener is looked for at that alone, and there is one place left.
	named := tenants(routes - 1)
	named.Parents = []world.RouteParent{parents[0]}
	named.Parents[0].Section = "l0"
	s.put(named)
	if f := s.Output().Findings[named.Ref()][0]; f.Status != isTrue {
		t.Errorf("one with a sectionName is told %+v", f)
	}
}

// TestListenersOfAllGatewaysCount: a namespace may have any number of Gateways, and all of its routes at all of them are looked at for each change.
func TestListenersOfAllGatewaysCount(t *testing.T) {
	const gateways, listeners, routes, served = 5, 8, 10, 6
	s := newUnreadScene(t)
	s.x.maxLooks = served*gateways*listeners + 1
	d := world.NewDelta()
	var parents []world.RouteParent
	for i := range gateways {
		g := &world.Gateway{Key: foreign(fmt.Sprint("g", i)), Class: ClassEastWest}
		for j := range listeners {
			g.Listeners = append(g.Listeners, world.Listener{Name: fmt.Sprint("l", j), Port: uint16(7000 + j), Protocol: protocolTCP})
		}
		d.Put(g)
		parents = append(parents, world.RouteParent{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "mallory", Name: g.Name})
	}
	for i := range routes {
		d.Put(&world.TCPRoute{StreamRoute: world.StreamRoute{Key: foreign(fmt.Sprint("r", i)), Created: int64(100 + i), Parents: parents}})
	}
	s.Apply(d)
	looks := 0
	for _, a := range s.x.applied {
		if a.ref.Namespace == "mallory" {
			for _, f := range a.fits {
				looks += len(f.at)
			}
		}
	}
	if looks != served*gateways*listeners {
		t.Errorf("routes are found at %d listeners, want those of %d routes at %d Gateways of %d", looks, served, gateways, listeners)
	}
	for i := range routes {
		for _, f := range s.Output().Findings[world.ObjectRef{Kind: world.KindTCPRoute, Key: foreign(fmt.Sprint("r", i))}] {
			if f.Type == routeAccepted && (f.Status == isTrue) != (i < served) {
				t.Errorf("route %d is told %+v", i, f)
			}
		}
	}
}
