// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestCounted compares a counted with a plain count of each pair.
func TestCounted(t *testing.T) {
	type pair struct{ k, v int }
	random := rand.New(rand.NewPCG(1, 2))
	m, plain := counted[int, int]{}, map[pair]int{}
	for range 20_000 {
		p := pair{random.IntN(3), random.IntN(4)}
		if plain[p] > 0 && random.IntN(2) == 0 {
			plain[p]--
			if got := m.remove(p.k, p.v); got != (plain[p] == 0) {
				t.Fatalf("removing %v: %v, and %d are left", p, got, plain[p])
			}
		} else {
			plain[p]++
			if got := m.add(p.k, p.v); got != (plain[p] == 1) {
				t.Fatalf("adding %v: %v, and there are %d", p, got, plain[p])
			}
		}
		keys := map[int]bool{}
		for k := range 3 {
			var want []int
			for v := range 4 {
				if plain[pair{k, v}] > 0 {
					want = append(want, v)
					keys[k] = true
				}
				if m.holds(k, v) != (plain[pair{k, v}] > 0) {
					t.Fatalf("%d holds %d: %v", k, v, m.holds(k, v))
				}
			}
			if got := slices.Sorted(m.of(k)); !slices.Equal(got, want) {
				t.Fatalf("%d has %v, want %v", k, got, want)
			}
		}
		if len(m) != len(keys) {
			t.Fatalf("%d keys, want %d", len(m), len(keys))
		}
	}
}
