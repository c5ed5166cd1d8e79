// SPDX-License-Identifier: Apache-2.0

package http

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// TestOutliersOfOnePort: where nothing listens at one of a pod's ports, the others are not concerned.
func TestOutliersOfOnePort(t *testing.T) {
	now := time.Now()
	o := outliers{now: func() time.Time { return now }}
	dead, well := portKey{key("a"), 81, "p1"}, portKey{key("a"), 80, "p1"}
	out := func(of portKey) []string { return slices.Sorted(maps.Keys(o.out(of.service, of.port))) }
	o.failed(dead)
	if got := out(dead); !slices.Equal(got, []string{"p1"}) {
		t.Errorf("at the port that failed %v are out", got)
	}
	if got := out(well); got != nil {
		t.Errorf("at another port %v are out", got)
	}
	if got := out(portKey{key("b"), 81, ""}); got != nil {
		t.Errorf("at another service %v are out", got)
	}
	o.succeeded(well)
	if got := out(dead); got == nil {
		t.Error("what answers at one port is let in at another one that failed")
	}
	now = now.Add(ejectMin)
	o.failed(dead)
	now = now.Add(ejectMin)
	if got := out(dead); got == nil {
		t.Error("the second time in a row is not longer")
	}
	now = now.Add(ejectMin + 2*ejectMax + 1)
	if out(dead); o.some.Load() {
		t.Error("it is never forgotten")
	}
}
