// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only this seed of the random changes")
	seedsFlag = flag.Uint64("seeds", 30, "how many seeds of random changes to run")
)

// mirror is an Output that is kept up to date by Changes alone, as a reader of Changes would.
type mirror struct {
	out    Output
	wanted map[mesh.ServiceKey]bool
}

func newMirror() *mirror {
	return &mirror{out: NewEngine(testConfig).Output(), wanted: map[mesh.ServiceKey]bool{}}
}

func (m *mirror) apply(c Change) {
	m.out.Mesh.Apply(c.Mesh)
	for ref, f := range c.Findings {
		if len(f) == 0 {
			delete(m.out.Findings, ref)
		} else {
			m.out.Findings[ref] = f
		}
	}
	for k, p := range c.Gateways {
		if p == nil {
			delete(m.out.Gateways, k)
		} else {
			m.out.Gateways[k] = p
		}
	}
	follow(m.out.GatewayAddresses, c.GatewayAddresses)
	follow(m.out.Scopes, c.Scopes)
	follow(m.out.Remotes, c.Remotes)
	for k, want := range c.VIPs {
		if want {
			m.wanted[k] = true
		} else {
			delete(m.wanted, k)
		}
	}
	m.out.WantVIPs = slices.SortedFunc(maps.Keys(m.wanted), compareServiceKeys)
	if len(m.out.WantVIPs) == 0 {
		m.out.WantVIPs = nil
	}
}

func follow[K comparable, V any](into map[K]V, changes map[K]*V) {
	for k, v := range changes {
		if v == nil {
			delete(into, k)
		} else {
			into[k] = *v
		}
	}
}

// agree applies random deltas and demands after each that the Engine says what Build says, that a reader of its Changes knows
// the same, and that a Change holds real differences only.
func agree(t *testing.T, rng *rand.Rand, steps int) {
	t.Helper()
	g := generator{rng}
	state, engine, reader := world.NewState(), NewEngine(testConfig), newMirror()
	for step := range steps {
		d := g.delta()
		state.Apply(d)
		before := engine.Output().Mesh.Clone()
		change := engine.Apply(d)
		reader.apply(change)
		want := Build(state, testConfig)
		if diff := difference(want, engine.Output()); diff != "" {
			t.Fatalf("step %d: after %s\nthe engine differs from Build (-want +got):\n%s", step, describe(d), diff)
		}
		if diff := difference(want, reader.out); diff != "" {
			t.Fatalf("step %d: after %s\nthe changes do not tell all (-want +got):\n%s", step, describe(d), diff)
		}
		if real := mesh.Diff(before, want.Mesh); real.Len() != change.Mesh.Len() {
			t.Fatalf("step %d: after %s\nthe delta has %d keys, but %d differ", step, describe(d), change.Mesh.Len(), real.Len())
		}
	}
}

// difference is empty if both are the same but for nil and empty slices.
func difference(want, got Output) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got, byValue...)
}

func TestEngineAgreesWithBuild(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = seeds[:0]
		for s := range *seedsFlag {
			seeds = append(seeds, s+1)
		}
	}
	for _, seed := range seeds {
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { agree(t, rand.New(rand.NewPCG(seed, seed)), 150) }) {
			t.Fatalf("again with: go test ./internal/translate -run TestEngineAgreesWithBuild -seed=%d", seed)
		}
	}
}

// FuzzEngineAgreesWithBuild lets the fuzzer choose the changes.
func FuzzEngineAgreesWithBuild(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(20))
	f.Add(uint64(99), uint64(7), uint8(60))
	f.Fuzz(func(t *testing.T, a, b uint64, steps uint8) {
		agree(t, rand.New(rand.NewPCG(a, b)), int(steps))
	})
}
