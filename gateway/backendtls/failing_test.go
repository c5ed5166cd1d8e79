// SPDX-License-Identifier: Apache-2.0

package backendtls

import (
	"errors"
	"strconv"
	"testing"
	"time"
)

// An endpoint whose handshake failed is passed over for longer each time, and for nobody but who uses the same settings; one that agrees is forgotten.
func TestFailingEndpoints(t *testing.T) {
	s, other, now := &Settings{}, &Settings{}, time.Unix(1000, 0)
	expect := func(step string, s *Settings, want ...string) {
		t.Helper()
		out := s.Out(now)
		for _, w := range want {
			if _, ok := out[w]; !ok {
				t.Errorf("%s: %s is not passed over", step, w)
			}
		}
		if len(out) != len(want) {
			t.Errorf("%s: %v are passed over, want %v", step, out, want)
		}
	}
	expect("at first", s)
	for i, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
		want := time.Duration(seconds) * time.Second
		if got := s.Failed("a", now); got != want {
			t.Errorf("failure %d: %v", i, got)
		}
		if again := s.Failed("a", now); again != 0 {
			t.Errorf("failure %d, found twice: %v", i, again)
		}
		expect("it failed", s, "a")
		expect("by other settings", other)
		now = now.Add(want)
		expect("its time is over", s)
	}
	s.Failed("a", now)
	s.Failed("b", now)
	s.Agreed("a")
	expect("one agreed", s, "b")
	if got := s.Failed("a", now); got != time.Second {
		t.Errorf("after it agreed: %v", got)
	}
	now = now.Add(3 * lastPause)
	expect("long after", s)
	if s.failing.some.Load() || len(s.failing.of) > 0 {
		t.Error("it is remembered for ever")
	}
	for i := range 2 * maxFailing {
		s.Failed(strconv.Itoa(i), now)
	}
	if n := len(s.failing.of); n != maxFailing {
		t.Errorf("%d are remembered", n)
	}
	var none *Settings
	if none.Agreed("a"); none.Failed("a", now) != 0 || none.Out(now) != nil {
		t.Error("without settings")
	}
	if broken := (&Settings{problem: errors.New("no CAs")}); broken.Failed("a", now) != 0 || broken.Out(now) != nil {
		t.Error("an endpoint is blamed for settings that cannot be used")
	}
}
