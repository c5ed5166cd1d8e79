// SPDX-License-Identifier: Apache-2.0

package http

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestOutliersOfOnePort: where nothing listens at one of a pod's ports, the others are not concerned.
func TestOutliersOfOnePort(t *testing.T) {
	now := time.Now()
	o := outliers{now: func() time.Time { return now }}
	dead, well := portKey{portOf{service: key("a"), port: 81}, "p1"}, portKey{portOf{service: key("a"), port: 80}, "p1"}
	out := func(of portKey) []string { return slices.Sorted(maps.Keys(o.out(of.portOf))) }
	o.failed(dead)
	if got := out(dead); !slices.Equal(got, []string{"p1"}) {
		t.Errorf("at the port that failed %v are out", got)
	}
	if got := out(well); got != nil {
		t.Errorf("at another port %v are out", got)
	}
	if got := out(portKey{portOf{service: key("b"), port: 81}, ""}); got != nil {
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

// BenchmarkOutliersOfOthers is what a request to a healthy service looks for beside another one's dead endpoints.
func BenchmarkOutliersOfOthers(b *testing.B) {
	for _, n := range []int{10, 20_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			o := outliers{now: time.Now}
			for i := range n {
				o.failed(portKey{portOf{service: key("dead"), port: 80}, strconv.Itoa(i)})
			}
			for b.Loop() {
				if o.out(portOf{service: key("well"), port: 80}) != nil {
					b.Fatal("something is out")
				}
			}
		})
	}
}

// TestOutliersOfOthers: while one service's endpoints are looked at, however many are dead, those of another can be asked for.
func TestOutliersOfOthers(t *testing.T) {
	o := outliers{now: time.Now}
	dead, well := portKey{portOf{service: key("a"), port: 80}, "p1"}, portKey{portOf{service: key("b"), port: 80}, "p1"}
	o.failed(dead)
	o.failed(well)
	p := o.known[dead.portOf]
	p.mu.Lock()
	defer p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.failed(well)
		o.out(well.portOf)
		o.succeeded(well)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("they wait for each other")
	}
}
