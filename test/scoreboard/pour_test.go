// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestHungerEndsWithTheConnection(t *testing.T) {
	hearing.mu.Lock()
	before := hearing.heard
	defer func() { hearing.heard = before; hearing.mu.Unlock() }()
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	served, starved, gone := &heard{last: at(0)}, &heard{last: at(0)}, &heard{last: at(0)}
	hearing.heard = []*heard{served, starved, gone}
	served.note(1, at(100))
	served.note(1, at(300))
	starved.note(1, at(400)) // 300 ms behind the other
	gone.note(1, at(400))    // and this one as well
	gone.end()
	served.note(1, at(2000))
	hearing.mu.Unlock()
	found, _ := appHear(appOrder{})
	hearing.mu.Lock()
	got := []time.Duration{found.Heard[0].Starved, found.Heard[1].Starved, found.Heard[2].Starved}
	for i, want := range []time.Duration{100 * time.Millisecond, 1600 * time.Millisecond, 400 * time.Millisecond} {
		if got[i] != want {
			t.Errorf("%d starved for %v, want %v", i, got[i], want)
		}
	}
}
