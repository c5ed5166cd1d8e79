// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known truth
		at, other := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("10.96.0.2")
		began := time.Now()
		known.own(at, 0)
		known.own(other, 1)
		time.Sleep(time.Minute)
		swapped := time.Now()
		known.own(at, 1)
		known.own(other, 0)
		if !known.meant(at, 0, swapped.Add(time.Hour), swapped.Add(time.Hour)) {
			t.Error("nobody has been told of the change, and who does not know it is blamed")
		}
		known.settle()
		for _, tc := range []struct {
			name      string
			at        netip.Addr
			service   int
			dialled   time.Time
			connected time.Time
			want      bool
		}{
			{"its own", at, 0, began, began, true},
			{"another's", at, 1, began, began, false},
			{"another's, for long", at, 1, began, swapped.Add(-time.Second), false},
			{"the new one's in the moment of the change", at, 1, began, swapped, true},
			{"the old one's in the moment of the change", at, 0, began, swapped, true},
			{"the old one's shortly after", at, 0, swapped.Add(wrongGrace), swapped.Add(wrongGrace), true},
			{"the old one's later", at, 0, swapped.Add(wrongGrace + 1), swapped.Add(wrongGrace + 1), false},
			{"the new one's later", at, 1, swapped.Add(time.Hour), swapped.Add(time.Hour), true},
			{"nobody's address", netip.MustParseAddr("10.96.0.3"), 0, began, swapped, false},
			{"a service that never had it", at, 2, began, swapped, false},
		} {
			if got := known.meant(tc.at, tc.service, tc.dialled, tc.connected); got != tc.want {
				t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
			}
		}
		if first, second := known.born(3), known.born(4); known.served(first) != 3 || known.served(second) != 4 || known.served(second+1) != -1 {
			t.Error("pods are confused")
		}
	})
}
