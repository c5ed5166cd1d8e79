// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime"
	"runtime/pprof"
)

// The two sides of a comparison, as profiles label them: `go tool pprof -tagfocus side=ours`.
var (
	ours    = pprof.Labels("side", "ours")
	control = pprof.Labels("side", "control")
)

// as runs f, and the goroutines that it starts, under the label of one side.
func as(side pprof.LabelSet, f func() error) (err error) {
	pprof.Do(context.Background(), side, func(context.Context) { err = f() })
	return err
}

// sides are measurements of ours and of the control.
type sides [2][]float64

// Which slice speaks for a round, as a percentile of its slices. Processor time hardly minds who else uses the machine, so the middle one does. Time on
// the wall does mind: a neighbour can take a core away and never give one, so the slices that were disturbed least are nearest to the truth.
const (
	middling = 50
	fastRate = 90 // of what is better when larger
	fastTime = 10 // of what is better when smaller
)

// add takes what the slices of one round found.
func (s *sides) add(round sides, speaker float64) {
	for side := range s {
		s[side] = append(s[side], percentile(round[side], speaker))
	}
}

// last gives the round that was added last.
func (s sides) last() (subject, known float64) { return s[0][len(s[0])-1], s[1][len(s[1])-1] }

// medians is what the rounds come to: the control's median, and ours as the median of the rounds' quotients makes it, so that a round that was slow for
// both does not look as if it had been slow for one.
func (s sides) medians() (subject, known float64) {
	quotients := make([]float64, len(s[0]))
	for round := range quotients {
		quotients[round] = s[0][round] / s[1][round]
	}
	known = median(s[1])
	return median(quotients) * known, known
}

// alternate runs slice n times for each side, 0 for ours and 1 for the control, in turns: ours first in one, the control first in the next, so that
// whatever else the machine does hurts both alike, the more so the shorter a slice is. Garbage is collected before each, lest one side's is cleared away
// on the other's bill.
func alternate(n int, slice func(side int) error) error {
	labels := [2]pprof.LabelSet{ours, control}
	for i := range n {
		for _, side := range [2]int{i % 2, 1 - i%2} {
			runtime.GC()
			if err := as(labels[side], func() error { return slice(side) }); err != nil {
				return err
			}
		}
	}
	return nil
}
