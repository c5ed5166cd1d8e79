// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// routeCounts gives the requests that were counted for each route.
func (s *scene) routeCounts() map[string]float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "isthmus_gateway_http_requests_total" && l.GetName() == "route" {
					out[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return out
}

// A route's series go when the configuration does not have it any more, and count anew when it comes back.
func TestSeriesOfRoutesFollowTheConfiguration(t *testing.T) {
	s := newScene(t, nil)
	other := webGateway(func(g *mesh.Gateway) { g.Listeners[1].Routes[0].Name = "other" })
	s.configure(webGateway(nil))
	s.get()
	s.get()
	if got := s.routeCounts(); got["shop/cart"] != 2 {
		t.Fatalf("counted %v", got)
	}
	s.configure(other)
	s.until("the route's series are gone", func() bool { _, there := s.routeCounts()["shop/cart"]; return !there })
	// Requests that the port's last configuration still takes count for no route.
	s.until("the other route is counted", func() bool { s.get(); return s.routeCounts()["shop/other"] == 1 })
	s.configure(webGateway(nil))
	s.until("the route that came back is counted anew", func() bool { s.get(); return s.routeCounts()["shop/cart"] == 1 })
	if got := s.routeCounts(); got["shop/other"] != 0 {
		t.Errorf("counted %v", got)
	}
}

// At a waypoint, routes at services have series as long as they are there, and what goes straight to a service has those of its namespace as long as the waypoint stands in front of it.
func TestSeriesOfServicesRoutes(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	plain := func(change func(*mesh.Gateway)) {
		s.configure(waypointOf(change))
		s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) { svc.Ports[0].App = mesh.AppHTTP11 })}})
	}
	plain(nil)
	client := s.within(clientID, authority)
	counts := func(when, route string, want float64) {
		t.Helper()
		if status, body := ask(t, client, "/"); status != 200 {
			t.Fatalf("%s: %d %q", when, status, body)
		}
		if got := s.routeCounts(); got[route] != want || len(got) != 1 {
			t.Errorf("%s: counted %v, want %v of %s", when, got, want, route)
		}
	}
	counts("without routes", "shop/(none)", 1)
	counts("and again", "shop/(none)", 2)
	plain(func(g *mesh.Gateway) {
		g.ServiceRoutes = []mesh.ServiceRoutes{{Service: cartKey, Routes: []*mesh.HTTPRoute{route("shop", "producer", "/", "x")}}}
	})
	ask(t, client, "/")
	if got := s.routeCounts(); got["shop/producer"] != 1 || got["shop/(none)"] != 2 {
		t.Errorf("with a route: counted %v", got)
	}
	plain(nil)
	s.until("the route's series are gone", func() bool { return len(s.routeCounts()) == 1 })
	counts("without routes again", "shop/(none)", 3)
}
