// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Whether hostnames were taken is found by look-ups; it must be what comparing each with each says.
func TestHostOwnersAgreeWithComparison(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	some := func() []string {
		var out []string
		for range rng.IntN(3) {
			out = append(out, []string{"example.com", "a.example.com", "b.a.example.com", "com", "*.example.com", "*.a.example.com", "*.com", "xa.example.com", "*.org", "a.org"}[rng.IntN(10)])
		}
		return out
	}
	overlap := func(a, b []string) bool {
		if len(a) == 0 || len(b) == 0 {
			return true
		}
		return slices.ContainsFunc(a, func(h string) bool { return anyMeets(h, b) })
	}
	met, apart := 0, 0
	for range 5000 {
		owners := newHostOwners()
		var taken [][]string
		for range rng.IntN(4) {
			hostnames := some()
			taken = append(taken, hostnames)
			owners.take(hostnames, &applicant{})
		}
		asked := some()
		want := slices.ContainsFunc(taken, func(h []string) bool { return overlap(h, asked) })
		if _, got := owners.first(asked); got != want {
			t.Fatalf("%q after %q: taken %v, want %v", asked, taken, got, want)
		}
		if want {
			met++
		} else {
			apart++
		}
	}
	if met < 500 || apart < 500 {
		t.Errorf("%d had hostnames in common and %d had not: too few to show anything", met, apart)
	}
}

// A GRPCRoute that is left out, as the routes of its namespace are too many, keeps no HTTPRoute of another namespace from its hostname: nobody would serve it.
func TestRouteThatIsLeftOutIsNobodysRival(t *testing.T) {
	s := newUnreadScene(t)
	s.x.maxRoutes = 1 << 16
	s.put(laden())
	d := world.NewDelta()
	d.Delete((&world.HTTPRoute{Key: inDemo("r")}).Ref()) // which has every hostname
	s.Apply(d)
	old := &world.GRPCRoute{HTTPRoute: *s.route("old", "cart")}
	old.Namespace, old.Parents, old.Created, old.Hostnames = "mallory", atLaden(), 2, []string{"shop.example.com"}
	old.Rules, old.Matches = make([]gatewayv1.HTTPRouteRule, 300), make([][]gatewayv1.GRPCRouteMatch, 300)
	shop := s.route("shop", "cart")
	shop.Namespace, shop.Parents, shop.Created, shop.Hostnames = "shop", atLaden(), 9, []string{"shop.example.com"}
	s.put(old, shop)
	said := func(of world.ObjectRef) string { return s.Output().Findings[of][0].Reason }
	if a, b := said(old.Ref()), said(shop.Ref()); a != string(gatewayv1.RouteReasonAccepted) || b != routeConflicted {
		t.Fatalf("with room for both the older route is %s and the younger one %s", a, b)
	}
	for i := range 6 { // older, and at 20 listeners each: the namespace's share is taken
		r := wide("mallory", fmt.Sprint("fills", i), 1)
		r.Hostnames = r.Hostnames[:10]
		s.put(r)
	}
	if a, b := said(old.Ref()), said(shop.Ref()); a != ReasonTooMany || b != string(gatewayv1.RouteReasonAccepted) {
		t.Errorf("without room the older route is %s and the younger one %s", a, b)
	}
}
