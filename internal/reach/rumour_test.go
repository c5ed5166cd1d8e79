// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// slow connects after a while.
func slow(d time.Duration) func(context.Context) *Failure {
	return func(ctx context.Context) *Failure {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return &Failure{Refusal: unavailable(ReasonConnect, "%w", ctx.Err())}
		}
	}
}

// Whatever a source says of all endpoints of a service, another one that can connect them does.
func TestRumoursCostNoConnection(t *testing.T) {
	for _, tc := range []struct {
		takes, want time.Duration
	}{
		{1900 * time.Millisecond, 1900 * time.Millisecond}, // a lost SYN and more
		{2900 * time.Millisecond, 2*time.Second + 2900*time.Millisecond},
	} {
		for _, n := range []int{2, 5, 6, 8} {
			synctest.Test(t, func(t *testing.T) {
				liar := newSearcher(carts(n)...)
				other := liar.another()
				for i := range n {
					addr := tunnel(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}).String())
					liar.behave[addr], other.behave[addr] = closedPort, slow(tc.takes)
				}
				for range 2 {
					liar.connect(t.Context(), "10.96.0.1:80")
				}
				began := time.Now()
				if d, refusal := other.connect(t.Context(), "10.96.0.1:80"); d == nil || time.Since(began) != tc.want {
					t.Errorf("%d endpoints that take %v: dialled %v in %v, want %v: %v", n, tc.takes, other.dialled, time.Since(began), tc.want, refusal)
				}
			})
		}
	}
}

// What a source failed at once and never tried again is no news for ever.
func TestRumoursAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idle := newSearcher(carts(2)...)
		other := idle.another()
		idle.behave[tunnel("10.0.0.1")] = silent
		other.behave[tunnel("10.0.0.1")] = slow(2500 * time.Millisecond)
		idle.connect(t.Context(), "10.96.0.1:80")
		time.Sleep(firstEjection)
		if other.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(other.dialled, []string{"10.0.0.1"}) {
			t.Errorf("dialled %v", other.dialled)
		}
	})
}

// Who had less time for an attempt because of a rumour does not spread it.
func TestRumoursDoNotFeedThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newSearcher(carts(2)...)
		hasty, third := first.another(), first.another()
		first.behave[tunnel("10.0.0.1")] = silent
		hasty.behave[tunnel("10.0.0.1")], third.behave[tunnel("10.0.0.1")] = slow(2500*time.Millisecond), slow(2500*time.Millisecond)
		first.connect(t.Context(), "10.96.0.1:80")
		if hasty.connect(t.Context(), "10.96.0.1:80"); len(hasty.dialled) != 2 {
			t.Fatalf("in spite of a rumour dialled %v", hasty.dialled)
		}
		if third.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(third.dialled, []string{"10.0.0.1"}) {
			t.Errorf("the next one dialled %v", third.dialled)
		}
		// It passes over what may be well for as short as it can, and then takes its time.
		time.Sleep(firstEjection)
		if hasty.connect(t.Context(), "10.96.0.1:80"); !slices.Equal(hasty.dialled, []string{"10.0.0.1"}) {
			t.Errorf("then it dialled %v", hasty.dialled)
		}
	})
}
