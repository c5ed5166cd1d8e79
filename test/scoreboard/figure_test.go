// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
)

func TestFigure(t *testing.T) {
	offset := atMost("round trip", "µs", 29, 20, "TLS", 1)
	offset.Goal, offset.Rule = 30, "TLS + 10 µs"
	for _, tc := range []struct {
		name  string
		f     figure
		holds bool
		text  string
	}{
		{"below", atMost("cost", "s/GB", 1.0512, 1, "TLS", 1.1), true, "cost: 1.05 s/GB, TLS 1 s/GB; goal at most 1.10 s/GB, 1.10 × TLS: met"},
		{"above", atMost("cost", "s/GB", 2.5, 2, "TLS", 1.1), false, "cost: 2.50 s/GB, TLS 2 s/GB; goal at most 2.20 s/GB, 1.10 × TLS: MISSED"},
		{"just", atMost("cost", "s/GB", 3, 2, "TLS", 1.5), true, "cost: 3 s/GB, TLS 2 s/GB; goal at most 3 s/GB, 1.50 × TLS: met"},
		{"more is better", atLeast("rate", "/s", 98765.4, 40000, "x/net", 2), true, "rate: 98,765/s, x/net 40,000/s; goal at least 80,000/s, 2.00 × x/net: met"},
		{"not enough", atLeast("rate", "/s", 1234567, 1e6, "x/net", 1.5), false, "rate: 1,234,567/s, x/net 1,000,000/s; goal at least 1,500,000/s, 1.50 × x/net: MISSED"},
		{"offset", offset, true, "round trip: 29 µs, TLS 20 µs; goal at most 30 µs, TLS + 10 µs: met"},
		{"no control", figure{What: "goroutines", Goal: 10}, true, "goroutines: 0; goal at most 10: met"},
		{"small", figure{What: "size", Unit: "KiB", Ours: 12.345, Goal: 0.0123}, false, "size: 12.3 KiB; goal at most 0.012 KiB: MISSED"},
		{"tiny", figure{What: "allocations", Ours: 0.00123, Goal: 0.01}, true, "allocations: 0.0012; goal at most 0.010: met"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.f.holds() != tc.holds {
				t.Errorf("holds: %v", tc.f.holds())
			}
			if got := tc.f.String(); got != tc.text {
				t.Errorf("%s\nwant\n%s", got, tc.text)
			}
		})
	}
}

func TestResultNeedsAllFigures(t *testing.T) {
	good, bad := atMost("a", "s", 3, 2, "TLS", 2), atLeast("b", "s", 3, 2, "TLS", 2)
	for _, tc := range []struct {
		name    string
		figures []figure
		pass    bool
	}{
		{"one", []figure{good}, true},
		{"second misses", []figure{good, bad}, false},
		{"first misses", []figure{bad, good}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			r := ratio(&out, 2, tc.figures...)
			if r.Pass != tc.pass || r.Value != 1.5 || r.Unit != "ratio" || *r.Control != 2 || r.Goal != 2 || len(r.Figures) != len(tc.figures) {
				t.Errorf("ratio: %+v", r)
			}
			if a := absolute(&out, tc.figures...); a.Pass != tc.pass || a.Value != 3 || a.Unit != "s" || *a.Control != 2 || a.Goal != 4 {
				t.Errorf("absolute: %+v", a)
			}
			if lines := bytes.Count(out.Bytes(), []byte("\n")); lines != 2*len(tc.figures) {
				t.Errorf("%d lines of progress", lines)
			}
		})
	}
}
