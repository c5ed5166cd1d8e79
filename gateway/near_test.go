// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestNearEndpointsFirst: a service that prefers what is close gets that from the gateway too, as long as there is any, and the farther ones after.
func TestNearEndpointsFirst(t *testing.T) {
	own := netip.MustParseAddr("10.0.0.200")
	s := newScene(t, func(o *Options) { frozen(o); o.Address = own; o.SlowStart = -1 })
	s.configure(nil)
	place := func(zone string) func(*mesh.Workload) {
		return func(w *mesh.Workload) { w.Locality = mesh.Locality{Region: "eu", Zone: zone} }
	}
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) {
		svc.Balance = mesh.LoadBalancing{Mode: mesh.BalanceFailover, Preference: []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone}}
	})}})
	near, nearer, far := s.pod(1), podWorkload(2, nil), s.pod(3) // the second one refuses
	for w, zone := range map[*mesh.Workload]string{near: "a", nearer: "a", far: "b"} {
		place(zone)(w)
	}
	s.add(near, nearer, far, podWorkload(200, func(w *mesh.Workload) {
		place("a")(w)
		w.UID, w.Name, w.Services = "west//Pod/edge/west-1", "west-1", nil
	}))
	outer := s.outer(15008, clientID)
	for range 10 {
		answer, header, err := s.call(outer, authority, "x")
		if err != nil || !strings.HasPrefix(answer, "cart-1 ") {
			t.Fatalf("%q, %v", answer, err)
		}
		if got := header.Get(headerEndpoints); got != "2" {
			t.Errorf("the source is told of %s endpoints, want the 2 in the zone", got)
		}
	}
	gone := *near
	gone.Unhealthy = true
	s.add(&gone)
	for range 5 {
		if answer, _, err := s.call(outer, authority, "x"); err != nil || !strings.HasPrefix(answer, "cart-3 ") {
			t.Fatalf("with nobody left in the zone: %q, %v", answer, err)
		}
	}
}

// TestFarEndpointsForThoseThatAreOut: being left out counts for more than being near, being avoided for less.
func TestFarEndpointsForThoseThatAreOut(t *testing.T) {
	b := newBalancer(time.Now)
	candidates := some(1, 1, 1)
	candidates[0].rank, candidates[1].rank = 2, 2
	avoidBoth := map[string]struct{}{endpointID("", "a"): {}, endpointID("", "b"): {}}
	if uid := pick(t, b, attempt{candidates: candidates, avoid: avoidBoth}); uid == "c" {
		t.Error("a source that has all of the near ones is sent far away")
	}
	b.failed("a")
	b.failed("b")
	if uid := pick(t, b, attempt{candidates: candidates}); uid != "c" {
		t.Errorf("%s is picked, and failed just now", uid)
	}
}
