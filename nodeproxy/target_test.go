// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

func TestResolveTarget(t *testing.T) {
	self := shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080))
	self.Services[shop.Key("named")] = nil
	v := shop.View(self, shop.Service("cart", "10.96.0.1", func(s *mesh.Service) {
		s.Ports = []mesh.Port{{Service: 80, Target: 9999}, {Service: 81, Target: 8081}, {Service: 82, Target: 15008}}
	}), shop.Service("other", "10.96.0.2"), shop.Service("named", "10.96.0.3", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 80}} }))
	for _, tc := range []struct {
		authority string
		want      string
		status    int
		reason    Reason
	}{
		{authority: "10.0.0.1:8080", want: "10.0.0.1:8080"},
		{authority: "[::ffff:10.0.0.1]:8080", want: "10.0.0.1:8080"},
		{authority: "cart.shop.svc.cluster.local:80", want: "10.0.0.1:8080"}, // the endpoint's own port comes first
		{authority: "cart.shop.svc.cluster.local:81", want: "10.0.0.1:8081"},
		{authority: "10.0.0.2:8080", status: 400, reason: reach.ReasonBadTarget},
		{authority: "10.96.0.1:80", status: 400, reason: reach.ReasonBadTarget},
		{authority: "10.0.0.1", status: 400, reason: reach.ReasonBadTarget},
		{authority: "10.0.0.1:0", status: 400, reason: reach.ReasonBadTarget},
		{authority: "10.0.0.1:65536", status: 400, reason: reach.ReasonBadTarget},
		{authority: ":80", status: 400, reason: reach.ReasonBadTarget},
		{authority: "", status: 400, reason: reach.ReasonBadTarget},
		{authority: "nobody.shop.svc.cluster.local:80", status: 503, reason: ReasonUnknownService},
		{authority: "cart.shop.svc.cluster.local.:80", status: 503, reason: ReasonUnknownService},
		{authority: "cart.shop.svc.cluster.local:83", status: 503, reason: ReasonUnknownService},
		{authority: "named.shop.svc.cluster.local:80", status: 503, reason: ReasonUnknownService},
		{authority: "other.shop.svc.cluster.local:80", status: 503, reason: ReasonNotEndpoint},
		{authority: "10.0.0.1:15008", status: 503, reason: ReasonOwnPort},
		{authority: "cart.shop.svc.cluster.local:82", status: 503, reason: ReasonOwnPort},
	} {
		to, refusal := resolveTarget(v, self, netip.MustParseAddr("10.0.0.1"), tc.authority)
		got := to.At
		if to.Proxy || to.Dial != got {
			t.Errorf("%q: %+v, without an application tunnel", tc.authority, to)
		}
		switch {
		case tc.want != "":
			if refusal != nil || got.String() != tc.want {
				t.Errorf("%q: %v, %v; want %s", tc.authority, got, refusal, tc.want)
			}
		case refusal == nil || refusal.Status != tc.status || refusal.Reason != tc.reason:
			t.Errorf("%q: %v, %+v; want %d %s", tc.authority, got, refusal, tc.status, tc.reason)
		}
	}
}

// What came through a gateway reaches exported services, by their names, and nothing else.
func TestBeyond(t *testing.T) {
	gateway := shop.Pod("edge", "10.0.0.9", func(w *mesh.Workload) { w.Gateway = true })
	exported := shop.Service("cart", "10.96.0.1", func(s *mesh.Service) { s.Exported = true })
	for _, tc := range []struct {
		name    string
		gateway *mesh.Workload
		target  target
		refused bool
	}{
		{"an exported service", gateway, target{Service: exported}, false},
		{"a local one", gateway, target{Service: shop.Service("cart", "10.96.0.1")}, true},
		{"an address", gateway, target{At: netip.MustParseAddrPort("10.0.0.1:9090")}, true},
		{"a local one, by nobody's gateway", nil, target{Service: shop.Service("cart", "10.96.0.1")}, false},
		{"an address, by nobody's gateway", nil, target{At: netip.MustParseAddrPort("10.0.0.1:9090")}, false},
	} {
		refusal := beyond(tc.gateway, tc.target)
		if (refusal != nil) != tc.refused || refusal != nil && (refusal.Status != 503 || refusal.Reason != ReasonNotExported) {
			t.Errorf("%s: %v", tc.name, refusal)
		}
	}
}

func FuzzResolveTarget(f *testing.F) {
	self := shop.Pod("cart", "10.0.0.1", shop.Serves("cart", 80, 8080))
	v := shop.View(self, shop.Service("cart", "10.96.0.1"))
	local := netip.MustParseAddr("10.0.0.1")
	for _, s := range []string{"10.0.0.1:80", "[::1]:80", "cart.shop.svc.cluster.local:80", "[fe80::1%eth0]:1", ":", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		to, refusal := resolveTarget(v, self, local, authority)
		got := to.At
		if refusal == nil && (got.Addr() != local || got.Port() == 0 || ownPort(got.Port())) {
			t.Fatalf("%q leads to %v", authority, got)
		}
	})
}

// What a gateway let in for one port of one service reaches that, by its name, and nothing else.
func TestOutside(t *testing.T) {
	cart, other := shop.Service("cart", "10.96.0.1"), shop.Service("other", "10.96.0.2")
	namesake := shop.Service("cart", "10.96.0.3", func(s *mesh.Service) { s.Namespace = "depot" })
	at := func(s *mesh.Service, port uint16) target {
		return target{Service: s, Meant: netip.AddrPortFrom(netip.MustParseAddr("10.96.0.1"), port), At: netip.MustParseAddrPort("10.0.0.1:8080")}
	}
	admitted := reach.Confinement(cart.Key(), 80)
	if admitted != "shop/cart.shop.svc.cluster.local:80" {
		t.Errorf("it is written %q", admitted)
	}
	for _, tc := range []struct {
		name     string
		confined string
		target   target
		refused  bool
	}{
		{"what was let in", admitted, at(cart, 80), false},
		{"another service of the pod", admitted, at(other, 80), true},
		{"another port", admitted, at(cart, 81), true},
		{"one of another namespace with the same hostname", admitted, at(namesake, 80), true},
		{"an address", admitted, at(nil, 80), true},
		{"anything, where nothing was said", "", at(nil, 80), false},
		{"anything, where what was said means nothing", "nonsense", at(cart, 80), true},
	} {
		refusal := outside(tc.confined, tc.target)
		if (refusal != nil) != tc.refused || refusal != nil && (refusal.Status != 401 || refusal.Reason != ReasonNotAdmitted) {
			t.Errorf("%s: %v", tc.name, refusal)
		}
	}
}

// TestTargetOfWaypoint is about pods that take what was meant for others.
func TestTargetOfWaypoint(t *testing.T) {
	byName := &mesh.GatewayAddress{Hostname: shop.Key("waypoint"), Port: 15008}
	byVIP := &mesh.GatewayAddress{Addr: shop.At("east", "10.96.0.9"), Port: 15008}
	byAddress := &mesh.GatewayAddress{Addr: shop.At("east", "10.0.0.1"), Port: 15008}
	byOther := &mesh.GatewayAddress{Addr: shop.At("east", "10.0.0.2"), Port: 15008}
	foreign := &mesh.GatewayAddress{Addr: shop.At("west", "10.0.0.1"), Port: 15008}
	through := func(w *mesh.GatewayAddress) func(*mesh.Service) { return func(s *mesh.Service) { s.Waypoint = w } }
	world := []any{
		shop.Service("waypoint", "10.96.0.9", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 15008, Target: 15008}} }),
		shop.Service("named", "10.96.1.1", through(byName)), shop.Service("vip", "10.96.1.2", through(byVIP)), shop.Service("direct", "10.96.1.3", through(byAddress)),
		shop.Service("weighted", "10.96.1.4", through(byOther), func(s *mesh.Service) {
			s.Waypoints = []mesh.WeightedWaypoint{{At: *byOther, Weight: 1}, {At: *byName, Weight: 1}}
		}),
		shop.Service("elsewhere", "10.96.1.5", through(byOther)), shop.Service("foreign", "10.96.1.6", through(foreign)),
		shop.Service("both", "10.96.1.7", through(byName), func(s *mesh.Service) {
			s.Addresses = []mesh.NetworkAddress{shop.At("west", "10.1.1.7"), shop.At("east", "fd00::7"), shop.At("east", "10.96.1.7")}
		}),
		shop.Service("headless", "", through(byName)),
		shop.Pod("behind", "10.0.0.7", func(w *mesh.Workload) { w.Waypoint = byName }), shop.Pod("free", "10.0.0.8"),
	}
	for _, tc := range []struct {
		tunnel    *mesh.AppTunnel
		authority string
		want      string // "at dial meant", the last if the application is told
		reason    Reason
	}{
		{nil, "10.0.0.1:80", "10.0.0.1:80 10.0.0.1:80", ""},
		{nil, "10.96.1.1:80", "10.0.0.1:80 10.0.0.1:80", ""},
		{nil, "10.96.1.2:80", "10.0.0.1:80 10.0.0.1:80", ""},
		{nil, "10.96.1.3:80", "10.0.0.1:80 10.0.0.1:80", ""},
		{nil, "10.96.1.4:80", "10.0.0.1:80 10.0.0.1:80", ""},
		{nil, "10.0.0.7:8080", "10.0.0.1:8080 10.0.0.1:8080", ""},
		{nil, "named.shop.svc.cluster.local:80", "10.0.0.1:80 10.0.0.1:80", ""},
		{nil, "named.shop.svc.cluster.local:81", "", ReasonUnknownService},
		{nil, "elsewhere.shop.svc.cluster.local:80", "", ReasonNotEndpoint},
		{nil, "10.96.1.5:80", "", reach.ReasonBadTarget},
		{nil, "10.96.1.6:80", "", reach.ReasonBadTarget},
		{nil, "10.0.0.8:80", "", reach.ReasonBadTarget},
		{nil, "192.0.2.1:80", "", reach.ReasonBadTarget},
		{nil, "10.96.1.1:15008", "", ReasonOwnPort},

		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "10.96.1.1:80", "10.0.0.1:15088 127.0.0.1:15088 10.96.1.1:80", ""},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "10.0.0.1:80", "10.0.0.1:15088 127.0.0.1:15088 10.0.0.1:80", ""},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "10.0.0.1:15008", "10.0.0.1:15088 127.0.0.1:15088 10.0.0.1:15008", ""},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "both.shop.svc.cluster.local:80", "10.0.0.1:15088 127.0.0.1:15088 10.96.1.7:80", ""},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "headless.shop.svc.cluster.local:80", "10.0.0.1:15088 127.0.0.1:15088 10.0.0.1:80", ""},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "192.0.2.1:443", "10.0.0.1:15088 127.0.0.1:15088 192.0.2.1:443", ""},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "10.96.0.9:15008", "10.0.0.1:15088 127.0.0.1:15088 10.96.0.9:15008", ""},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "10.96.1.5:80", "", reach.ReasonBadTarget},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "10.0.0.8:80", "", reach.ReasonBadTarget},
		{&mesh.AppTunnel{Port: 15088, Proxy: true}, "nobody.shop.svc.cluster.local:80", "", ReasonUnknownService},
		{&mesh.AppTunnel{Port: 15006, Proxy: true}, "10.96.1.1:80", "", ReasonOwnPort},
		{&mesh.AppTunnel{Proxy: true}, "10.96.1.1:80", "10.0.0.1:80 127.0.0.1:80 10.96.1.1:80", ""},
		{&mesh.AppTunnel{Port: 15088}, "10.96.1.1:80", "10.0.0.1:15088 127.0.0.1:15088", ""},
		{&mesh.AppTunnel{}, "10.0.0.1:80", "10.0.0.1:80 127.0.0.1:80", ""},
		{&mesh.AppTunnel{}, "10.0.0.1:15053", "", ReasonOwnPort},
		{&mesh.AppTunnel{Proxy: true}, "10.96.1.1:15053", "", ReasonOwnPort},
		{nil, "10.0.0.1:15053", "10.0.0.1:15053 10.0.0.1:15053", ""}, // nobody of ours is there
		{&mesh.AppTunnel{Port: 15088}, "192.0.2.1:443", "", reach.ReasonBadTarget},
	} {
		self := shop.Pod("waypoint-0", "10.0.0.1", shop.Serves("waypoint", 15008, 15008), func(w *mesh.Workload) { w.AppTunnel = tc.tunnel })
		v := shop.View(append(world, self)...)
		got, refusal := resolveTarget(v, self, netip.MustParseAddr("10.0.0.1"), tc.authority)
		text := ""
		if refusal == nil {
			text = got.At.String() + " " + got.Dial.String()
			if got.Proxy {
				text += " " + got.Meant.String()
			}
		}
		if text != tc.want || refusal != nil && refusal.Reason != tc.reason {
			t.Errorf("%+v %q: %q, %v; want %q %s", tc.tunnel, tc.authority, text, refusal, tc.want, tc.reason)
		}
	}
}
