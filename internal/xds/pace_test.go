// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"testing"
	"time"
)

// TestPace: what counts is the time since the last look, until all is out. 120 bytes within two minutes are one a second.
func TestPace(t *testing.T) {
	for _, tc := range []struct {
		name    string
		written []int64 // at each look, every 5 s
		want    string  // whether it keeps pace, at each
	}{
		{"nothing goes out", []int64{0, 0}, "--"},
		{"what fits on the way is taken, and no more", []int64{60, 60, 60}, "+--"},
		{"fast enough", []int64{6, 12, 18}, "+++"},
		{"a little now and then", []int64{5, 6, 10}, "---"},
		{"after a pause", []int64{0, 50}, "-+"},
		{"all is out", []int64{120, 120, 120}, "+++"},
	} {
		p, got := pace{}, ""
		p.begin(1000, 120)
		for _, n := range tc.written {
			if p.keeps(1000+n, 5*time.Second, 2*time.Minute) {
				got += "+"
			} else {
				got += "-"
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
