// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// farScope is one of many ServiceScopes of west; it says something about services of one label only.
func farScope(i int, generation int64) *world.ServiceScope {
	return &world.ServiceScope{
		Key: world.Key{Cluster: "west", Name: fmt.Sprintf("s%05d", i)}, Generation: generation, Priority: 1,
		Entries: []world.ScopeEntry{{Scope: "LOCAL", Services: &world.Selector{MatchLabels: map[string]string{"team": fmt.Sprint(i)}}}},
	}
}

// TestScopesOfAnotherClusterAreBounded: those beyond the bound decide nothing, and are counted, in whatever order they come.
func TestScopesOfAnotherClusterAreBounded(t *testing.T) {
	apply := agreeing(t)
	if got := apply(large(2)).Remotes["west"]; got.Services != 2 || got.RefusedScopes != 0 {
		t.Fatalf("%+v", got)
	}
	many := world.NewDelta() // they come before the one that makes everything global
	for i := range maxFarEntries {
		many.Put(farScope(i, 1))
	}
	if got := apply(many).Remotes["west"]; got.Services != 0 || got.RefusedScopes != 1 || got.Refused() == "" {
		t.Errorf("%d services, %d refused: %s", got.Services, got.RefusedScopes, got.Refused())
	}
	more := world.NewDelta()
	more.Put(farScope(maxFarEntries, 1))
	if got := apply(more).Remotes["west"]; got.RefusedScopes != 2 {
		t.Errorf("%d refused, want 2", got.RefusedScopes)
	}
	fewer := world.NewDelta()
	fewer.Delete(farScope(0, 1).Ref())
	fewer.Delete(farScope(7, 1).Ref())
	if got := apply(fewer).Remotes["west"]; got.Services != 2 || got.RefusedScopes != 0 {
		t.Errorf("%+v, when there is room again", got)
	}
}

// TestAScopeCostsWhatItDecides: a change of one that decides about nothing looks at services, but works none of them out again.
func TestAScopeCostsWhatItDecides(t *testing.T) {
	allocations := func(services int) float64 {
		engine := NewEngine(testConfig)
		engine.Apply(large(services))
		many := world.NewDelta()
		for i := range 100 {
			many.Put(farScope(i, 1))
		}
		engine.Apply(many)
		generation := int64(1)
		return testing.AllocsPerRun(20, func() {
			generation++
			d := world.NewDelta()
			d.Put(farScope(50, generation))
			if change := engine.Apply(d); !change.Empty() {
				t.Fatalf("a scope that decides nothing changed %+v", change)
			}
		})
	}
	if small, big := allocations(5), allocations(50); big > small*1.1+5 {
		t.Errorf("it costs %.0f allocations where there are 5 services and %.0f where there are 50", small, big)
	}
}

// BenchmarkScope is the work for such a change in a world of 100,000 pods with 1,000 scopes of a remote cluster.
func BenchmarkScope(b *testing.B) {
	engine := NewEngine(testConfig)
	engine.Apply(large(500))
	many := world.NewDelta()
	for i := range 1000 {
		many.Put(farScope(i, 1))
	}
	engine.Apply(many)
	generation := int64(1)
	for b.Loop() {
		generation++
		d := world.NewDelta()
		d.Put(farScope(50, generation))
		engine.Apply(d)
	}
}
