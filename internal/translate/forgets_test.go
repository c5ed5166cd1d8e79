// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestEngineForgets: of a world that is gone nothing stays in any map, or what comes and goes in clusters would fill memory.
func TestEngineForgets(t *testing.T) {
	for seed := range uint64(8) {
		engine, there := NewEngine(testConfig), map[world.ObjectRef]bool{}
		moves := someMoves(seed+1, 100)
		for _, d := range deltas(moves) {
			engine.Apply(d)
		}
		for _, m := range moves {
			there[m.ref] = true
		}
		for ref := range there {
			d := world.NewDelta()
			d.Delete(ref)
			engine.Apply(d)
		}
		delete(engine.x.memory.before, world.Key{}) // of all BackendTLSPolicies, and always there
		for _, left := range held("engine", reflect.ValueOf(engine).Elem(), map[uintptr]bool{}) {
			t.Errorf("seed %d: %s", seed+1, left)
		}
	}
}

// held says which maps in a struct hold something.
func held(path string, v reflect.Value, seen map[uintptr]bool) []string {
	var out []string
	switch v.Kind() {
	case reflect.Map:
		if v.Len() > 0 {
			out = append(out, fmt.Sprintf("%s holds %d", path, v.Len()))
		}
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.Pointer()] {
			seen[v.Pointer()] = true
			out = held(path, v.Elem(), seen)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out = append(out, held(path+"."+v.Type().Field(i).Name, v.Field(i), seen)...)
		}
	}
	return out
}
