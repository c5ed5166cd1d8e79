// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// The figures of HBONE, as measured and as drawn, from the root of the repository.
const (
	recordFile  = "docs/hbone-figures.json"
	pictureFile = "docs/hbone-figures.svg"
)

// recorded are the rows of the picture, in its order.
var recorded = []string{
	"hbone-bulk", "hbone-bulk-8", "hbone-double-bulk", "hbone-rr", "hbone-rr-64", "hbone-open", "hbone-idle-mem", "hbone-allocs",
}

// record is what rows found, when, and on what machine.
type record struct {
	Date   string        `json:"date"`   // UTC, a day
	CPU    string        `json:"cpu"`    // cores and model
	Go     string        `json:"go"`     // version
	Commit string        `json:"commit"` // short, with a + if there was more than it
	Rows   []recordedRow `json:"rows"`
}

type recordedRow struct {
	Row     string   `json:"row"`
	Value   float64  `json:"value"`
	Unit    string   `json:"unit"`
	Goal    float64  `json:"goal"`
	Pass    bool     `json:"pass"`
	Figures []figure `json:"figures"`
}

// plot measures the rows, writes the record and draws the picture. A row that misses its goal is drawn like the others; one that cannot be measured
// leaves the files as they were.
func plot(ctx context.Context, out io.Writer) error {
	r := record{Date: time.Now().UTC().Format(time.DateOnly), CPU: cpu(), Go: runtime.Version(), Commit: commit(ctx)}
	for _, name := range recorded {
		fmt.Fprintf(out, "== %s: %s\n", name, rows[name].about)
		found, err := rows[name].measure(ctx, out)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		row := recordedRow{Row: name, Value: digits(found.Value), Unit: found.Unit, Goal: digits(found.Goal), Pass: found.Pass}
		for _, f := range found.Figures {
			row.Figures = append(row.Figures, f.rounded())
		}
		r.Rows = append(r.Rows, row)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record: %w", err)
	}
	if err := os.WriteFile(recordFile, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return redraw()
}

// redraw draws the picture anew from the record, without measuring.
func redraw() error {
	text, err := os.ReadFile(recordFile)
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s: %w", recordFile, err)
	}
	var picture bytes.Buffer
	if err := draw(&picture, r); err != nil {
		return err
	}
	return os.WriteFile(pictureFile, picture.Bytes(), 0o644)
}

// rounded keeps what means something.
func (f figure) rounded() figure {
	f.Ours, f.Goal = digits(f.Ours), digits(f.Goal)
	if f.Control != nil {
		c := digits(*f.Control)
		f.Control = &c
	}
	return f
}

// digits rounds v to four digits that count.
func digits(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-3)
	if unit < 1 { // so that what is decimal stays so
		return math.Round(v*math.Round(1/unit)) / math.Round(1/unit)
	}
	return math.Round(v/unit) * unit
}

// cpu names the machine's processor.
func cpu() string {
	model := runtime.GOARCH
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return strconv.Itoa(runtime.NumCPU()) + " × " + model
}

// commit names what was measured, or "unknown" outside of a repository.
func commit(ctx context.Context) string {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=9", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(id))
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil || len(bytes.TrimSpace(changed)) > 0 {
		name += "+"
	}
	return name
}
