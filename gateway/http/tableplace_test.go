// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestWhatRoutesTakeOfATable: a table takes about what is said of its routes, and no multiple of that, whatever hostnames and matches those have and at however many listeners they are. What
// is said is what the control plane bounds.
func TestWhatRoutesTakeOfATable(t *testing.T) {
	for _, tc := range []struct {
		what                          string
		listeners, hostnames, matches int
	}{
		{"large, at one listener for all hostnames", 1, 16, 128},
		{"large, at many, which have one of its hostnames", 400, 16, 128},
		{"small, at many", 4000, 1, 1},
	} {
		r := route("r", nil)
		for i := range tc.hostnames {
			r.Hostnames = append(r.Hostnames, fmt.Sprintf("*.a%d", i))
		}
		var matches []mesh.HTTPMatch
		for i := range tc.matches {
			m := prefix(fmt.Sprintf("/%d", i))
			m.Exact = i%2 == 0
			matches = append(matches, m)
		}
		r.Rules = []mesh.HTTPRule{rule("x", matches...)}
		var all []mesh.Listener
		said := r.Size()
		for i := range tc.listeners {
			l := listener(fmt.Sprint("l", i), fmt.Sprintf("h%d.a0", i), r)
			if tc.listeners == 1 {
				l.Hostname = ""
			}
			all, said = append(all, l), said+r.AtListener(l.Hostname)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		NewTable(all)
		runtime.ReadMemStats(&after)
		if took := int(after.TotalAlloc - before.TotalAlloc); took > 2*said {
			t.Errorf("%s: %d bytes were allocated, %d are said", tc.what, took, said)
		}
	}
}
