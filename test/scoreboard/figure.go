// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// figure is one thing that a row promises: ours and the control's, in the same unit, and the bound that ours must keep. A row may have several;
// it passes if all of them hold.
type figure struct {
	What string  `json:"what"` // "processor time"
	Unit string  `json:"unit"` // "s/GB"
	Ours float64 `json:"ours"`
	// Control is what was measured of something known; nil if there is nothing to compare with.
	Control *float64 `json:"control"`
	// Against names the control: "TLS".
	Against string `json:"against,omitempty"`
	// Goal is what Ours must not exceed or, with AtLeast, must reach, in Unit.
	Goal    float64 `json:"goal"`
	AtLeast bool    `json:"atLeast,omitempty"`
	// Rule is how Goal comes about, if it is not simply given: "1.10 × TLS".
	Rule string `json:"rule,omitempty"`
}

// atMost is a figure whose goal is a multiple of its control, or below.
func atMost(what, unit string, ours, control float64, against string, times float64) figure {
	return figure{
		What: what, Unit: unit, Ours: ours, Control: &control, Against: against, Goal: times * control,
		Rule: fmt.Sprintf("%.2f × %s", times, against),
	}
}

// atLeast is a figure whose goal is a multiple of its control, or above.
func atLeast(what, unit string, ours, control float64, against string, times float64) figure {
	f := atMost(what, unit, ours, control, against, times)
	f.AtLeast = true
	return f
}

// holds says whether the goal is met.
func (f figure) holds() bool {
	if f.AtLeast {
		return f.Ours >= f.Goal
	}
	return f.Ours <= f.Goal
}

func (f figure) String() string {
	text := f.What + ": " + withUnit(f.Ours, f.Unit)
	if f.Control != nil {
		text += ", " + f.Against + " " + withUnit(*f.Control, f.Unit)
	}
	verdict := "met"
	if !f.holds() {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s; goal %s: %s", text, f.bound(), verdict)
}

// bound is the goal in words.
func (f figure) bound() string {
	text := "at most "
	if f.AtLeast {
		text = "at least "
	}
	text += withUnit(f.Goal, f.Unit)
	if f.Rule != "" {
		text += ", " + f.Rule
	}
	return text
}

// withUnit writes v with three digits that count or all of those before the point, which it groups by thousands, and its unit.
func withUnit(v float64, unit string) string {
	digits := 0
	switch {
	case v == math.Trunc(v) || v >= 100:
	case v >= 10:
		digits = 1
	case v >= 1:
		digits = 2
	case v >= 0.01:
		digits = 3
	default:
		digits = 4
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	for i := len(text) - 3; i > 0 && digits == 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	if unit == "" || strings.HasPrefix(unit, "/") {
		return text + unit
	}
	return text + " " + unit
}

// ratio is the result of a row whose value is how many times the control its first figure is, with goal as the bound of that. The row passes if all
// figures hold.
func ratio(out io.Writer, goal float64, figures ...figure) result {
	r := absolute(out, figures...)
	r.Value, r.Unit, r.Goal = figures[0].Ours / *figures[0].Control, "ratio", goal
	return r
}

// absolute is the result of a row whose value is its first figure. The row passes if all figures hold.
func absolute(out io.Writer, figures ...figure) result {
	first := figures[0]
	r := result{Value: first.Ours, Unit: first.Unit, Control: first.Control, Goal: first.Goal, Pass: true, Figures: figures}
	for _, f := range figures {
		fmt.Fprintln(out, f)
		r.Pass = r.Pass && f.holds()
	}
	return r
}
