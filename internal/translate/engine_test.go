// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
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
	out     Output
	wanted  map[mesh.ServiceKey][]world.Cluster
	objects set[world.ObjectRef]
	routed  set[string]
}

func newMirror() *mirror {
	return &mirror{out: NewEngine(testConfig).Output(), wanted: map[mesh.ServiceKey][]world.Cluster{}, objects: set[world.ObjectRef]{}, routed: set[string]{}}
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
	follow(m.out.Listeners, c.Listeners)
	follow(m.out.AttachedSets, c.AttachedSets)
	for o, want := range c.Objects {
		if want {
			m.objects.add(o)
		} else {
			delete(m.objects, o)
		}
	}
	m.out.WantObjects = sortedRefs(m.objects)
	for namespace, want := range c.Waypoints {
		if want {
			m.routed.add(namespace)
		} else {
			delete(m.routed, namespace)
		}
	}
	if m.out.WantWaypoints = slices.Sorted(maps.Keys(m.routed)); len(m.routed) == 0 {
		m.out.WantWaypoints = nil
	}
	for k, want := range c.VIPs {
		if len(want) > 0 {
			m.wanted[k] = want
		} else {
			delete(m.wanted, k)
		}
	}
	if m.out.WantVIPs = maps.Clone(m.wanted); len(m.out.WantVIPs) == 0 {
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

// testIndex is an empty index. In a tight one, random worlds have more ways in, and more behind them, than is looked at.
func testIndex(tight bool) *index {
	x := newIndex(testConfig)
	if tight {
		x.maxWaysIn, x.maxBehind = 1, 3
	}
	return x
}

// disagreement applies moves step by step and demands after each step that the Engine says what Build says, that a reader of its
// Changes knows the same, and that a Change holds real differences only. It gives the number of the first delta after which that is
// not so, and what is wrong; -1 if all is well. apply is Engine.Apply.
func disagreement(moves []move, tight bool, apply func(*Engine, world.Delta) Change) (at int, problem string) {
	state, engine, reader := world.NewState(), newEngine(testIndex(tight)), newMirror()
	for i, d := range deltas(moves) {
		for answered := false; !answered; {
			state.Apply(d)
			before := engine.Output().Mesh.Clone()
			change := apply(engine, d)
			reader.apply(change)
			want := engine.Output()
			if d, answered = whatIsRead(engine); answered { // before, the engine holds on to what was, and Build knows no before
				want = testIndex(tight).build(state)
			}
			if diff := difference(want, engine.Output()); diff != "" {
				return i, "the engine differs from Build (-want +got):\n" + diff
			}
			if diff := difference(want, reader.out); diff != "" {
				return i, "the changes do not tell all (-want +got):\n" + diff
			}
			if real := mesh.Diff(before, want.Mesh); real.Len() != change.Mesh.Len() {
				return i, fmt.Sprintf("the delta has %d keys, but %d differ", change.Mesh.Len(), real.Len())
			}
		}
	}
	return -1, ""
}

// whatIsRead says that what is wanted and not there is absent, as who reads it does; true: nothing is to be said.
func whatIsRead(e *Engine) (world.Delta, bool) {
	d := world.NewDelta()
	for o := range e.gates.wanted {
		if e.x.unread(o) {
			d.Put(world.NewAbsent(o))
		}
	}
	return d, d.Len() == 0
}

// someMoves are random; those of every other seed build upon a foundation.
func someMoves(seed uint64, steps int) []move {
	g := generator{rand.New(rand.NewPCG(seed, seed))}
	var out []move
	if seed%2 == 0 {
		out = g.foundation()
	}
	for step := range steps {
		out = append(out, g.moves(step+1, out)...)
	}
	return out
}

// agree fails with as few moves as are needed to show the disagreement.
func agree(t *testing.T, moves []move) {
	t.Helper()
	agreeWhere(t, false, moves)
}

// agreeWhere is agree in a world that is a tight one or not.
func agreeWhere(t *testing.T, tight bool, moves []move) {
	t.Helper()
	at, _ := disagreement(moves, tight, (*Engine).Apply)
	if at < 0 {
		return
	}
	left := shrink(moves, func(m []move) bool { at, _ := disagreement(m, tight, (*Engine).Apply); return at >= 0 })
	_, problem := disagreement(left, tight, (*Engine).Apply)
	lines := make([]string, 0, len(left))
	for _, m := range left {
		lines = append(lines, m.String())
	}
	t.Fatalf("after these %d of %d moves\n  %s\n%s", len(left), len(moves), strings.Join(lines, "\n  "), problem)
}

// agreeBySeed is agree for random moves. Half of the worlds are tight ones.
func agreeBySeed(t *testing.T, seed uint64, steps int) {
	t.Helper()
	agreeWhere(t, seed%4 >= 2, someMoves(seed, steps))
}

// difference is empty if both are the same but for nil and empty slices.
func difference(want, got Output) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got, byValue...)
}

// agreeing applies deltas to an engine, and demands after each that it says what Build says.
func agreeing(t *testing.T) func(world.Delta) Output {
	t.Helper()
	engine, state := NewEngine(testConfig), world.NewState()
	return func(d world.Delta) Output {
		t.Helper()
		state.Apply(d)
		engine.Apply(d)
		if diff := difference(Build(state, testConfig), engine.Output()); diff != "" {
			t.Fatalf("the engine differs from Build (-want +got):\n%s", diff)
		}
		return engine.Output()
	}
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
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { agreeBySeed(t, seed, 150) }) {
			t.Fatalf("again with: go test ./internal/translate -run TestEngineAgreesWithBuild -seed=%d", seed)
		}
	}
}

// FuzzEngineAgreesWithBuild lets the fuzzer choose the changes.
func FuzzEngineAgreesWithBuild(f *testing.F) {
	f.Add(uint64(1), uint8(20))
	f.Add(uint64(99), uint8(60))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) { agreeBySeed(t, seed, int(steps)) })
}
