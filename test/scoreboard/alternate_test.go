// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"testing"
)

func TestAlternate(t *testing.T) {
	var order string
	if err := alternate(3, func(side int) error { order += fmt.Sprint(side); return nil }); err != nil || order != "011001" {
		t.Errorf("order %s, error %v", order, err)
	}
	stop := errors.New("stop")
	order = ""
	err := alternate(3, func(side int) error {
		order += fmt.Sprint(side)
		if side == 1 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || order != "01" {
		t.Errorf("after an error: order %s, error %v", order, err)
	}
}

func TestSides(t *testing.T) {
	var s sides
	for _, round := range []sides{
		{{3, 1, 2}, {4, 4, 4}},       // 2 against 4
		{{60, 60, 60}, {40, 40, 40}}, // slow for both: 1.5 times
		{{3, 3, 3}, {3, 3, 3}},       // once
	} {
		s.add(round, middling)
	}
	if subject, known := s.last(); subject != 3 || known != 3 {
		t.Errorf("last round: %g, %g", subject, known)
	}
	if subject, known := s.medians(); subject != 4 || known != 4 {
		t.Errorf("medians %g, %g; want the control's 4, and 1 times that", subject, known)
	}
}
