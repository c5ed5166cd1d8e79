// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"math/rand/v2"
	"slices"
	"testing"

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
			owners.take(hostnames, world.ObjectRef{Kind: world.KindHTTPRoute})
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
