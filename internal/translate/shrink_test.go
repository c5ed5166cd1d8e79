// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// move is one object that is put or deleted. Moves of one step arrive in one delta.
type move struct {
	step int
	ref  world.ObjectRef
	put  world.Object // nil: deleted
}

func (m move) String() string {
	if m.put == nil {
		return fmt.Sprintf("step %d: delete %s", m.step, m.ref)
	}
	fields, err := json.Marshal(m.put)
	if err != nil {
		return fmt.Sprintf("step %d: put %s: %v", m.step, m.ref, err)
	}
	return fmt.Sprintf("step %d: put %s %s", m.step, m.ref, fields)
}

// deltas puts the moves of each step together.
func deltas(moves []move) []world.Delta {
	var out []world.Delta
	for i, m := range moves {
		if i == 0 || moves[i-1].step != m.step {
			out = append(out, world.NewDelta())
		}
		if d := out[len(out)-1]; m.put == nil {
			d.Delete(m.ref)
		} else {
			d.Put(m.put)
		}
	}
	return out
}

// shrink leaves away as much of a list that fails as it can, so that what is left still fails: first long runs, then shorter ones,
// down to single items, until none can be missed.
func shrink[T any](items []T, fails func([]T) bool) []T {
	for size := max(len(items)/2, 1); size > 0; {
		removed := false
		for at := 0; at+size <= len(items); {
			if fewer := slices.Delete(slices.Clone(items), at, at+size); fails(fewer) {
				items, removed = fewer, true
			} else {
				at += size
			}
		}
		switch {
		case size > 1:
			size /= 2
		case !removed:
			size = 0
		}
	}
	return items
}

func TestShrinkFindsWhatIsNeeded(t *testing.T) {
	var items []int
	for i := range 1000 {
		items = append(items, i)
	}
	fails := func(s []int) bool { // 7 before 700, and something above 990
		i, j := slices.Index(s, 7), slices.Index(s, 700)
		return i >= 0 && j > i && slices.Max(s) > 990
	}
	got := shrink(items, fails)
	if len(got) != 3 || got[0] != 7 || got[1] != 700 || got[2] <= 990 {
		t.Fatalf("shrank to %v", got)
	}
}

// TestDisagreementShrinks breaks an engine on purpose, and demands that what is left of a long history is the one change that it does
// not hear of.
func TestDisagreementShrinks(t *testing.T) {
	deaf := func(e *Engine, d world.Delta) Change {
		for k := range d.Nodes {
			delete(d.Nodes, k) // its pods do not learn where they are
		}
		return e.Apply(d)
	}
	var moves []move
	for seed := uint64(1); ; seed++ {
		moves = someMoves(seed, 60)
		if at, _ := disagreement(moves, false, deaf); at >= 0 {
			break
		}
		if seed == 20 {
			t.Fatal("a deaf engine was not found out")
		}
	}
	left := shrink(moves, func(m []move) bool { at, _ := disagreement(m, false, deaf); return at >= 0 })
	var kinds []string
	for _, m := range left {
		kinds = append(kinds, string(m.ref.Kind))
	}
	slices.Sort(kinds)
	// A node with a place, and a pod of it on a network of ours: if it is a remote one's, what makes it so.
	if len(left) > 6 || !slices.Contains(kinds, "Node") {
		t.Fatalf("%d moves are left: %s", len(left), strings.Join(kinds, ", "))
	}
}
