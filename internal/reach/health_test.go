// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func noChance() float64 { return 0 }

// failed says that an endpoint failed for dst; by the zero dst, for everything.
func (h *Health) failed(uid string, dst netip.AddrPort) { h.eject(ejected{uid: uid, dst: dst}) }

func (h *Health) gatewayFailed(gateway mesh.GatewayAddress) { h.eject(ejected{gateway: gateway}) }

func TestHealthPassesOverForLongerEachTime(t *testing.T) {
	now, dst := time.Unix(0, 0), netip.MustParseAddrPort("10.96.0.10:80")
	h := NewHealth(func() time.Time { return now }, noChance)
	for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
		want := time.Duration(seconds) * time.Second
		h.failed("a", dst)
		now = now.Add(want - 1)
		if _, avoided := h.out(dst, false).Endpoints["a"]; !avoided {
			t.Errorf("used again before %v", want)
		}
		now = now.Add(1)
		if _, avoided := h.out(dst, false).Endpoints["a"]; avoided {
			t.Errorf("still avoided after %v", want)
		}
	}
	h.worked(Plan{Picked: "a"}, dst)
	h.failed("a", dst)
	now = now.Add(time.Second)
	if len(h.out(dst, false).Endpoints) != 0 {
		t.Error("success did not forget the failures")
	}
}

// Many connections find the same failure: it is one. The one that tries whether it is over finds another.
func TestHealthCountsAFailureOnce(t *testing.T) {
	now, dst := time.Unix(0, 0), netip.MustParseAddrPort("10.96.0.10:80")
	h := NewHealth(func() time.Time { return now }, noChance)
	gate := mesh.GatewayAddress{Port: 15008}
	plan := Plan{Picked: "a", Gateway: gate}
	for round, want := range []time.Duration{firstEjection, 2 * firstEjection, 4 * firstEjection} {
		if round > 0 {
			h.trying(plan, dst)
			now = now.Add(attemptTimeout / 2)
		}
		for range 50 {
			h.failed("a", dst)
			h.gatewayFailed(gate)
		}
		now = now.Add(want - 1)
		if out := h.out(dst, false); len(out.Endpoints) != 1 || len(out.Gateways) != 1 {
			t.Errorf("round %d: used again before %v: %v", round, want, out)
		}
		now = now.Add(1)
		if out := h.out(dst, false); !out.Empty() {
			t.Errorf("round %d: still avoided after %v: %v", round, want, out)
		}
	}
}

// A port that nobody serves costs the endpoint's other ports nothing; an endpoint that is not there is passed over for all of them.
func TestHealthIsOfWhatWasDialled(t *testing.T) {
	h := NewHealth(time.Now, noChance)
	broken, fine := netip.MustParseAddrPort("10.96.0.10:81"), netip.MustParseAddrPort("10.96.0.10:80")
	h.failed("a", broken)
	if len(h.out(broken, false).Endpoints) != 1 || len(h.out(fine, false).Endpoints) != 0 {
		t.Errorf("a broken port: %v, the other one: %v", h.out(broken, false).Endpoints, h.out(fine, false).Endpoints)
	}
	h.failed("a", netip.AddrPort{})
	if len(h.out(fine, false).Endpoints) != 1 {
		t.Error("a dead endpoint is used for another port")
	}
	h.worked(Plan{Picked: "a"}, fine)
	if len(h.out(broken, false).Endpoints) != 1 || len(h.out(fine, false).Endpoints) != 0 {
		t.Errorf("after success on the other port: %v, %v", h.out(broken, false).Endpoints, h.out(fine, false).Endpoints)
	}
}

func TestHealthIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	h := NewHealth(func() time.Time { return now }, noChance)
	for i := range maxEjections + 10 {
		h.failed(fmt.Sprint(i), netip.AddrPort{})
	}
	if len(h.ejected) != maxEjections {
		t.Errorf("%d are remembered", len(h.ejected))
	}
	now = now.Add(time.Hour)
	h.failed("new", netip.AddrPort{})
	if len(h.ejected) != 1 {
		t.Errorf("%d are remembered after an hour", len(h.ejected))
	}
}

// By chance an ejection lasts up to a quarter longer.
func TestHealthComesBackAtDifferentTimes(t *testing.T) {
	now, dst := time.Unix(0, 0), netip.MustParseAddrPort("10.96.0.10:80")
	h := NewHealth(func() time.Time { return now }, func() float64 { return 0.5 })
	h.failed("a", dst)
	want := firstEjection + firstEjection/8
	now = now.Add(want - 1)
	before := len(h.out(dst, false).Endpoints)
	now = now.Add(1)
	if after := len(h.out(dst, false).Endpoints); before != 1 || after != 0 {
		t.Errorf("passed over before %v: %d, after it: %d", want, before, after)
	}
}

// What failed once and was never asked for again costs later connections nothing.
func TestHealthForgets(t *testing.T) {
	now, dst := time.Unix(0, 0), netip.MustParseAddrPort("10.96.0.10:80")
	h := NewHealth(func() time.Time { return now }, noChance)
	h.failed("gone", dst)
	h.gatewayFailed(mesh.GatewayAddress{Port: 15008})
	now = now.Add(firstEjection + lastEjection)
	if h.out(dst, false); len(h.ejected) != 2 {
		t.Errorf("%d are remembered while what failed may fail again", len(h.ejected))
	}
	now = now.Add(sweepPause)
	if h.out(dst, false); len(h.ejected) != 0 {
		t.Errorf("%d are remembered", len(h.ejected))
	}
}
