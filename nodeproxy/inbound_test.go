// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestResolveTarget(t *testing.T) {
	self := podWorkload("cart", "10.0.0.1", serves("cart", 80, 8080))
	self.Services[key("named")] = nil
	v := viewOf(self, shopService("cart", "10.96.0.1", func(s *mesh.Service) {
		s.Ports = []mesh.Port{{Service: 80, Target: 9999}, {Service: 81, Target: 8081}, {Service: 82, Target: 15008}}
	}), shopService("other", "10.96.0.2"), shopService("named", "10.96.0.3", func(s *mesh.Service) { s.Ports = []mesh.Port{{Service: 80}} }))
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
		{authority: "10.0.0.2:8080", status: 400, reason: ReasonBadTarget},
		{authority: "10.96.0.1:80", status: 400, reason: ReasonBadTarget},
		{authority: "10.0.0.1", status: 400, reason: ReasonBadTarget},
		{authority: "10.0.0.1:0", status: 400, reason: ReasonBadTarget},
		{authority: "10.0.0.1:65536", status: 400, reason: ReasonBadTarget},
		{authority: ":80", status: 400, reason: ReasonBadTarget},
		{authority: "", status: 400, reason: ReasonBadTarget},
		{authority: "nobody.shop.svc.cluster.local:80", status: 503, reason: ReasonUnknownService},
		{authority: "cart.shop.svc.cluster.local.:80", status: 503, reason: ReasonUnknownService},
		{authority: "cart.shop.svc.cluster.local:83", status: 503, reason: ReasonUnknownService},
		{authority: "named.shop.svc.cluster.local:80", status: 503, reason: ReasonUnknownService},
		{authority: "other.shop.svc.cluster.local:80", status: 503, reason: ReasonNotEndpoint},
		{authority: "10.0.0.1:15008", status: 503, reason: ReasonOwnPort},
		{authority: "cart.shop.svc.cluster.local:82", status: 503, reason: ReasonOwnPort},
	} {
		got, _, refusal := resolveTarget(v, self, netip.MustParseAddr("10.0.0.1"), tc.authority)
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

func FuzzResolveTarget(f *testing.F) {
	self := podWorkload("cart", "10.0.0.1", serves("cart", 80, 8080))
	v := viewOf(self, shopService("cart", "10.96.0.1"))
	local := netip.MustParseAddr("10.0.0.1")
	for _, s := range []string{"10.0.0.1:80", "[::1]:80", "cart.shop.svc.cluster.local:80", "[fe80::1%eth0]:1", ":", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		got, _, refusal := resolveTarget(v, self, local, authority)
		if refusal == nil && (got.Addr() != local || got.Port() == 0 || ownPort(got.Port())) {
			t.Fatalf("%q leads to %v", authority, got)
		}
	})
}
