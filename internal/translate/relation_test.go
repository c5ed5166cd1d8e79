// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestFewIsAMulti demands that few holds what multi holds, whatever is added and removed.
func TestFewIsAMulti(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	want, got := multi[int, int]{}, few[int, int]{}
	for step := range 20_000 {
		k, v := rng.IntN(4), rng.IntN(4)
		if rng.IntN(2) == 0 {
			want.add(k, v)
			got.add(k, v)
		} else {
			want.remove(k, v)
			got.remove(k, v)
		}
		for k := range 4 {
			values := set[int]{}
			for v := range got.of(k) {
				if values.has(v) {
					t.Fatalf("step %d: %d is there twice", step, v)
				}
				values.add(v)
			}
			if !maps.Equal(values, want[k]) || got.has(k) != (len(want[k]) > 0) {
				t.Fatalf("step %d: key %d has %v, want %v", step, k, values, want[k])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("step %d: %d keys, want %d", step, len(got), len(want))
		}
	}
}
