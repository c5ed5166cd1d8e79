// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

// shares sends n short streams, a hundred a second, and gives each endpoint's part of them in percent.
func shares(t *testing.T, b *balancer, n int, candidates []candidate) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		uid := pick(t, b, attempt{candidates: candidates})
		got[uid]++
		b.end(uid)
		time.Sleep(10 * time.Millisecond)
	}
	for uid := range got {
		got[uid] = got[uid] * 100 / n
	}
	return got
}

func TestNewEndpointsBeginSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(time.Now)
		if got := shares(t, b, 100, some(1, 1, 1)); got["a"] < 33 || got["c"] < 33 {
			t.Errorf("nobody is new among those that were there from the first: %v", got)
		}
		all := some(1, 1, 1, 1)
		part := []int{}
		for range 5 { // 7.5 s each
			part = append(part, shares(t, b, 750, all)["d"])
		}
		// A quarter is its whole share. Over the first 7.5 s its part grows from 10 to 25 % of that, and so on.
		for i, want := range []int{4, 9, 15, 21, 25} {
			if got := part[i]; got < want-2 || got > want+1 {
				t.Errorf("in the %d. part of its slow start the new one gets %d %%, want about %d", i+1, got, want)
			}
		}
	})
}

// TestNewEndpointsTakeNoFlood: others carry long streams, so that the new one has the fewest.
func TestNewEndpointsTakeNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(time.Now)
		for range 200 {
			pick(t, b, attempt{candidates: some(1, 1)})
		}
		if got := shares(t, b, 100, some(1, 1, 1)); got["c"] > 6 {
			t.Errorf("the new one gets %d %% at once", got["c"])
		}
		time.Sleep(slowStart)
		if got := shares(t, b, 100, some(1, 1, 1)); got["c"] < 100 {
			t.Errorf("a warm one with the fewest streams gets %d %%, want all", got["c"])
		}
	})
}

func TestEndpointsThatComeBackBeginSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(time.Now)
		shares(t, b, 10, some(1, 1))
		shares(t, b, 10, some(1)) // b is not ready for a moment
		if got := shares(t, b, 100, some(1, 1)); got["b"] > 10 {
			t.Errorf("who comes back from not being ready gets %d %% at once", got["b"])
		}
		time.Sleep(slowStart)
		out, _ := b.failed("b")
		time.Sleep(out)
		if got := shares(t, b, 100, some(1, 1)); got["b"] > 10 || got["b"] == 0 {
			t.Errorf("who was left out gets %d %% when it is let in again", got["b"])
		}
		if _, _, warming := b.counts(); warming != 1 {
			t.Errorf("%d endpoints are counted as warming", warming)
		}
	})
}

// TestColdEndpointsServeAllTheSame: when there is no other one, or the source asks for it.
func TestColdEndpointsServeAllTheSame(t *testing.T) {
	b := newBalancer(time.Now)
	pick(t, b, attempt{candidates: some(1)})
	for range 5 {
		if uid := pick(t, b, attempt{candidates: some(1, 1), avoid: map[string]struct{}{endpointID("", "a"): {}}}); uid != "b" {
			t.Errorf("a source that has a and asks for another one gets %s", uid)
		}
		if uid := pick(t, b, attempt{candidates: some(1, 1)[1:]}); uid != "b" {
			t.Errorf("the only endpoint is not taken: %q", uid)
		}
	}
}

func TestSlowStartCanBeTurnedOff(t *testing.T) {
	b := newBalancer(time.Now)
	b.slow = -1
	pick(t, b, attempt{candidates: some(1)})
	for range 3 {
		pick(t, b, attempt{candidates: some(1)})
	}
	if uid := pick(t, b, attempt{candidates: some(1, 1)}); uid != "b" {
		t.Errorf("%s gets the next stream, and b has none", uid)
	}
}

// TestPodsWithoutAPortWarmUp: streams to a port that some pods of a service lack do not make them new.
func TestPodsWithoutAPortWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(time.Now)
		got := map[string]int{}
		for i := range 4000 {
			a := attempt{candidates: some(1, 1, 1, 1), entry: entry{port: 80}}
			if i%2 == 1 {
				a = attempt{candidates: some(1, 1), entry: entry{port: 9090}} // which c and d lack
			}
			uid := pick(t, b, a)
			b.end(uid)
			if i%2 == 0 {
				got[uid]++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got["c"] < 480 || got["d"] < 480 {
			t.Errorf("of 2000 streams to the port that all have %v, want 500 each", got)
		}
	})
}
