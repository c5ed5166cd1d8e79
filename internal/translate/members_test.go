// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestMembers compares members with a plain list of pods: what they add up to, which places are others, and that nothing is kept of pods that no slice names any more.
func TestMembers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	m, plain := newMembers(), map[string]named{}
	tallies := func() map[place]tally {
		out := map[place]tally{}
		for _, p := range plain {
			if p.counts {
				sum := out[p.place]
				if sum.all++; p.healthy {
					sum.healthy++
				}
				out[p.place] = sum
			}
		}
		return out
	}
	for range 20_000 {
		name, before := fmt.Sprint("p", random.IntN(4)), tallies()
		more := 1 + random.IntN(2)
		if was := plain[name].entries; was > 0 && random.IntN(3) > 0 {
			more = -random.IntN(was + 1)
		}
		now := named{entries: plain[name].entries + more}
		if random.IntN(4) > 0 {
			now.member = member{place{fmt.Sprint("a", random.IntN(2)), fmt.Sprint("n", random.IntN(2))}, random.IntN(2) == 0}
			now.counts = true
		}
		places := m.set(name, now.member, now.counts, more)
		if plain[name] = now; now.entries == 0 {
			delete(plain, name)
		}
		after := tallies()
		if !maps.Equal(m.pods, plain) || !maps.Equal(m.places, after) {
			t.Fatalf("%v in %v, want %v in %v", m.pods, m.places, plain, after)
		}
		same := maps.EqualFunc(before, after, func(tally, tally) bool { return true })
		if places == same {
			t.Fatalf("from %v to %v: other places: %v", before, after, places)
		}
	}
}
