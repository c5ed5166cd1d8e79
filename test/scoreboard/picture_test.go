// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// drawn gives the picture of figures, as bytes and as its elements.
func drawn(t *testing.T, figures ...figure) (string, []xml.StartElement) {
	t.Helper()
	r := record{Date: "2026-01-02", CPU: "2 × some <model>", Go: "go1.27", Commit: "abc", Rows: []recordedRow{{Row: "hbone-x", Figures: figures}}}
	var b bytes.Buffer
	if err := draw(&b, r); err != nil {
		t.Fatal(err)
	}
	var elements []xml.StartElement
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String(), elements
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, b.String())
		}
		if e, ok := token.(xml.StartElement); ok {
			elements = append(elements, e.Copy())
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// bars gives the widths of the bars of a class, without that of the legend.
func bars(elements []xml.StartElement, class string) (widths []string) {
	for _, e := range elements {
		if e.Name.Local == "rect" && attribute(e, "class") == class {
			widths = append(widths, attribute(e, "width"))
		}
	}
	return widths[1:]
}

// goals gives where the lines of the goals begin, without that of the legend.
func goals(elements []xml.StartElement) (at []string) {
	for _, e := range elements {
		if e.Name.Local == "path" && attribute(e, "class") == "goal" {
			at = append(at, strings.Fields(attribute(e, "d"))[0])
		}
	}
	return at[1:]
}

func TestDraw(t *testing.T) {
	for _, tc := range []struct {
		name          string
		f             figure
		ours, control string // widths, of 400
		goal          string // 330 is zero, 730 the full width
		has           []string
		hasNot        []string
	}{
		{
			"ours is the longest and misses", atMost("cost", "s/GB", 2, 1, "TLS", 1.5), "400.0", "200.0", "M630.0",
			[]string{"✗ missed", ">2 s/GB<", ">TLS 1 s/GB<", "at most 1.50 s/GB, 1.50 × TLS", ">2.00 ×<"}, []string{"✓", `class="cut"`},
		},
		{
			"the goal is the longest", atLeast("rate", "/s", 100, 50, "x/net", 4), "200.0", "100.0", "M730.0",
			[]string{"✗ missed", ">100/s<", "at least 200/s"}, []string{"✓", `class="cut"`},
		},
		{
			"the control is a little longer", atMost("time", "µs", 50, 100, "x/net", 0.6), "200.0", "400.0", "M570.0",
			[]string{"✓ met", ">0.50 ×<"}, []string{"✗", `class="cut"`},
		},
		{
			"the control is much longer", atMost("size", "KiB", 2, 1000, "x/net", 0.004), "80.0", "400.0", "M490.0",
			[]string{"✓ met", `class="cut"`, ">x/net 1,000 KiB<"}, []string{"✗", "> ×<"},
		},
		{
			"nothing is seen", atMost("allocations", "", 0, 0.5, "TLS", 2), "1.5", "200.0", "M730.0",
			[]string{"✓ met", ">0<"}, nil,
		},
		{
			"no control", figure{What: "a < b & c", Goal: 10, Ours: 5}, "200.0", "", "M730.0",
			[]string{"✓ met", "a &lt; b &amp; c", ">at most 10<"}, []string{"TLS", "×<"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text, elements := drawn(t, tc.f)
			if got := strings.Join(bars(elements, "ours"), " "); got != tc.ours {
				t.Errorf("our bar %s, want %s", got, tc.ours)
			}
			if got := strings.Join(bars(elements, "control"), " "); got != tc.control {
				t.Errorf("control's bar %s, want %s", got, tc.control)
			}
			if got := strings.Join(goals(elements), " "); got != tc.goal {
				t.Errorf("goal at %s, want %s", got, tc.goal)
			}
			for _, s := range append(tc.has, "hbone-x", "2 × some &lt;model&gt;, go1.27, 2026-01-02, commit abc") {
				if !strings.Contains(text, s) {
					t.Errorf("%s is missing", s)
				}
			}
			for _, s := range tc.hasNot {
				if strings.Contains(text, s) {
					t.Errorf("%s is there", s)
				}
			}
		})
	}
}

// TestDrawIsTall: every figure has its place, and the picture ends below the last.
func TestDrawIsTall(t *testing.T) {
	f := atMost("cost", "s/GB", 2, 1, "TLS", 1.5)
	text, elements := drawn(t, f, f, f)
	if got := attribute(elements[0], "viewBox"); got != "0 0 960 262" { // 92 + 3 * 50 + 20
		t.Errorf("view %s", got)
	}
	for _, y := range []string{"translate(0 92)", "translate(0 142)", "translate(0 192)"} {
		if !strings.Contains(text, y) {
			t.Errorf("nothing at %s", y)
		}
	}
	again, _ := drawn(t, f, f, f)
	if text != again {
		t.Error("the same record was drawn in two ways")
	}
}
