// SPDX-License-Identifier: Apache-2.0

package world

import (
	"testing"
	"time"
)

// TestBeat says when clusters are read, and how long what they said is held back.
func TestBeat(t *testing.T) {
	beat := Beat{Every: 100 * time.Millisecond, Settle: 20 * time.Millisecond}
	midnight := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return midnight.Add(time.Duration(ms) * time.Millisecond) }
	for _, tc := range []struct {
		name           string
		now, last      int // milliseconds
		tick, held     time.Duration
		neverSaidSoFar bool
	}{
		{name: "at a tick", now: 1000, last: 920, tick: 100 * time.Millisecond, held: 20 * time.Millisecond},
		{name: "while what was read settles", now: 1015, last: 920, tick: 85 * time.Millisecond, held: 5 * time.Millisecond},
		{name: "when it has settled", now: 1020, last: 920, tick: 80 * time.Millisecond},
		{name: "again before the next tick", now: 1050, last: 1020, tick: 50 * time.Millisecond, held: 70 * time.Millisecond},
		{name: "after a tick at which nothing came", now: 1050, last: 920, tick: 50 * time.Millisecond},
		{name: "the first that is said", now: 1050, tick: 50 * time.Millisecond, neverSaidSoFar: true},
		{name: "the clock was set back an hour since", now: 1050, last: 3_601_020, tick: 50 * time.Millisecond, held: 70 * time.Millisecond},
	} {
		last := at(tc.last)
		if tc.neverSaidSoFar {
			last = time.Time{}
		}
		if tick := beat.UntilTick(at(tc.now)); tick != tc.tick {
			t.Errorf("%s: the next tick is in %v, want %v", tc.name, tick, tc.tick)
		}
		if held := max(0, beat.untilDue(at(tc.now), last)); held != tc.held {
			t.Errorf("%s: held back for %v, want %v", tc.name, held, tc.held)
		}
	}
}
