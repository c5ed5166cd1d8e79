// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestDigits(t *testing.T) {
	for v, want := range map[float64]float64{
		0: 0, 1: 1, 1.23456: 1.235, 0.000123456: 0.0001235, 98765.4: 98770, 1234567: 1235000, -1.23456: -1.235, 0.1: 0.1, 9999.9: 10000,
		math.Inf(1): math.Inf(1),
	} {
		if got := digits(v); got != want {
			t.Errorf("digits(%g) = %g, want %g", v, got, want)
		}
	}
}

// TestRecordedRows keeps a new row of HBONE from being forgotten in the picture.
func TestRecordedRows(t *testing.T) {
	for name := range rows {
		// Attacks are measured apart: they take as long as all the others together.
		if (strings.HasPrefix(name, "hbone-") && name != "hbone-attacks") != slices.Contains(recorded, name) {
			t.Errorf("row %s: recorded %v", name, slices.Contains(recorded, name))
		}
	}
	for _, name := range recorded {
		if _, ok := rows[name]; !ok {
			t.Errorf("recorded row %s does not exist", name)
		}
	}
}

// TestCommittedPicture: the picture in docs is the record in docs, drawn; `go run ./test/scoreboard draw` makes it so.
func TestCommittedPicture(t *testing.T) {
	text, err := os.ReadFile("../../" + recordFile)
	if err != nil {
		t.Fatal(err)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != len(recorded) {
		t.Errorf("%d rows recorded, want %d", len(r.Rows), len(recorded))
	}
	var drawn bytes.Buffer
	if err := draw(&drawn, r); err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadFile("../../" + pictureFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(drawn.Bytes(), committed) {
		t.Errorf("%s is not what %s draws", pictureFile, recordFile)
	}
}
