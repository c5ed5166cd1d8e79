// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFewIsMulti does the same to both and expects the same of both.
func TestFewIsMulti(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	f, m := newFew[int, int](), multi[int, int]{}
	for range 20_000 {
		k, v := random.IntN(4), random.IntN(4)
		if random.IntN(2) == 0 {
			f.add(k, v)
			m.add(k, v)
		} else {
			f.remove(k, v)
			m.remove(k, v)
		}
		if got, want := slices.Sorted(f.of(k)), slices.Sorted(maps.Keys(m[k])); !slices.Equal(got, want) {
			t.Fatalf("key %d has %v, want %v", k, got, want)
		}
		if len(f.more) > len(m) || len(f.one) != len(m) {
			t.Fatalf("%d and %d keys are kept, of %d", len(f.one), len(f.more), len(m))
		}
	}
	for range f.of(0) {
		break // ends when it is told to
	}
}
