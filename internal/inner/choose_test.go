// SPDX-License-Identifier: Apache-2.0

package inner

import "testing"

func TestChoose(t *testing.T) {
	room := func(load int, turn uint64) option { return option{load: load, room: true, turn: turn} }
	out := func(load int) option { return option{load: load, room: true, out: true} }
	full := option{load: 100}
	for _, tc := range []struct {
		name       string
		options    []option
		held, want int
		mayOpen    bool
		excluded   bool
		again      bool
		verdict    verdict
		index      int
	}{
		{name: "the first one", want: 1, mayOpen: true, verdict: open},
		{name: "too few pods are reached", options: []option{room(0, 0)}, held: 1, want: 3, mayOpen: true, verdict: open},
		{name: "too few, and no more may be opened", options: []option{room(7, 0)}, held: 1, want: 3, verdict: use, index: 0},
		{name: "the least load", options: []option{room(3, 1), room(2, 9), room(3, 0)}, held: 3, want: 3, mayOpen: true, verdict: use, index: 1},
		{name: "the least load for its share", options: []option{room(30, 1), {load: 4, share: 0.1, room: true}, {load: 14, share: 0.5, room: true}}, held: 3, want: 3, mayOpen: true, verdict: use, index: 2},
		{name: "equals in turn", options: []option{room(2, 5), room(2, 3), room(2, 4)}, held: 3, want: 3, mayOpen: true, verdict: use, index: 1},
		{name: "not one that failed lately", options: []option{out(0), room(9, 1)}, held: 2, want: 2, mayOpen: true, verdict: use, index: 1},
		{name: "one that failed lately, if there is no other", options: []option{out(4), out(3)}, held: 2, want: 2, mayOpen: true, verdict: use, index: 1},
		{name: "not one that is full", options: []option{full, room(100, 1)}, held: 2, want: 2, mayOpen: true, verdict: use, index: 1},
		{name: "all are full", options: []option{full, full}, held: 2, want: 2, mayOpen: true, verdict: open},
		{name: "all are full, rather another session than a pod that failed", options: []option{full, out(0)}, held: 2, want: 2, mayOpen: true, verdict: open},
		{name: "all are full, and no more may be opened", options: []option{full, full}, held: 2, want: 2, verdict: alone},
		{name: "all were tried", held: 2, want: 2, mayOpen: true, excluded: true, verdict: nothing},
		{name: "all were tried that are reached, and there are others", held: 2, want: 3, mayOpen: true, excluded: true, verdict: open},
		{name: "too few, for one who has tried another", options: []option{room(0, 0)}, held: 2, want: 3, mayOpen: true, excluded: true, again: true, verdict: use, index: 0},
		{name: "all were tried that are reached, and it has tried", held: 2, want: 3, mayOpen: true, excluded: true, again: true, verdict: open},
		{name: "all others were tried, and it is full", options: []option{full}, held: 2, want: 2, mayOpen: true, excluded: true, verdict: open},
	} {
		i, v := choose(tc.options, situation{held: tc.held, want: tc.want, grow: !tc.again, mayOpen: tc.mayOpen, excluded: tc.excluded})
		if v != tc.verdict || v == use && i != tc.index {
			t.Errorf("%s: verdict %d, option %d", tc.name, v, i)
		}
	}
}

func TestWant(t *testing.T) {
	for _, tc := range []struct {
		name                      string
		c                         coverage
		held, opening, most, want int
	}{
		{"nothing yet", coverage{}, 0, 0, 64, 1},
		{"the first is being opened", coverage{}, 0, 1, 64, 1},
		{"the first has told how many there are", coverage{ready: 10}, 1, 0, 64, 10},
		{"it did not", coverage{}, 1, 0, 64, 64},
		{"more than one source needs", coverage{ready: 1000}, 1, 0, 64, 64},
		{"all that can be had", coverage{ready: 10, all: true}, 9, 0, 64, 9},
		{"the number has changed", coverage{ready: 10, all: true, news: true}, 10, 0, 64, 11},
		{"that is being asked already", coverage{ready: 10, all: true, news: true}, 10, 1, 64, 11},
		{"all have ended, and come again", coverage{ready: 10}, 0, 1, 64, 10},
	} {
		if got := tc.c.want(tc.held, tc.opening, tc.most); got != tc.want {
			t.Errorf("%s: want %d, got %d", tc.name, tc.want, got)
		}
	}
}
