// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"testing"
	"time"
)

func TestHealthPassesOverForLongerEachTime(t *testing.T) {
	now := time.Unix(0, 0)
	h := newHealth(func() time.Time { return now })
	for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
		want := time.Duration(seconds) * time.Second
		h.failed("a")
		now = now.Add(want - 1)
		if _, avoided := h.avoid()["a"]; !avoided {
			t.Errorf("used again before %v", want)
		}
		now = now.Add(1)
		if _, avoided := h.avoid()["a"]; avoided {
			t.Errorf("still avoided after %v", want)
		}
	}
	h.worked("a")
	h.failed("a")
	now = now.Add(time.Second)
	if len(h.avoid()) != 0 {
		t.Error("success did not forget the failures")
	}
}

func TestHealthIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	h := newHealth(func() time.Time { return now })
	for i := range maxEjections + 10 {
		h.failed(fmt.Sprint(i))
	}
	if len(h.ejected) != maxEjections {
		t.Errorf("%d are remembered", len(h.ejected))
	}
	now = now.Add(time.Hour)
	h.failed("new")
	if len(h.ejected) != 1 {
		t.Errorf("%d are remembered after an hour", len(h.ejected))
	}
}

func TestNameservers(t *testing.T) {
	got := parseNameservers("# a comment\nsearch a b\nnameserver 10.96.0.10\nnameserver fd00::10\nnameserver nonsense\nnameserver\noptions ndots:5")
	if len(got) != 2 || got[0].String() != "10.96.0.10:53" || got[1].String() != "[fd00::10]:53" {
		t.Errorf("got %v", got)
	}
}
