// SPDX-License-Identifier: Apache-2.0

package logpipe

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stalled is a reader that takes nothing until it is let.
type stalled struct {
	let chan struct{}
	got bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	<-s.let
	return s.got.Write(p)
}

// TestAStalledReaderHoldsNobodyUp: lines wait up to the bound, those beyond are counted, and when the reader goes on it gets whole lines in their order.
func TestAStalledReaderHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &stalled{let: make(chan struct{})}
		w := New(to, 1000)
		fmt.Fprintln(w, "line 000") // the reader has this one
		synctest.Wait()
		for i := 1; i <= 200; i++ {
			fmt.Fprintf(w, "line %03d\n", i) // 9 bytes
		}
		if n := w.Lost(); n != 200-1000/9 {
			t.Errorf("%d lost, want %d", n, 200-1000/9)
		}
		close(to.let)
		synctest.Wait()
		fmt.Fprintln(w, "line 201")
		w.Close(time.Second)
		lines := strings.Split(strings.TrimSuffix(to.got.String(), "\n"), "\n")
		if len(lines) != 1+1000/9+1 || lines[len(lines)-1] != "line 201" {
			t.Fatalf("%d lines, the last %q", len(lines), lines[len(lines)-1])
		}
		for i, line := range lines[:len(lines)-1] {
			if line != fmt.Sprintf("line %03d", i) {
				t.Errorf("line %d is %q", i, line)
			}
		}
	})
}

// TestCloseWaitsForALimitedTime: a process ends although nobody reads its log.
func TestCloseWaitsForALimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &stalled{let: make(chan struct{})}
		w := New(to, 1000)
		fmt.Fprintln(w, "never read")
		began := time.Now()
		w.Close(time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		fmt.Fprintln(w, "too late")
		if w.Lost() != 1 {
			t.Error("a line after the end is not counted")
		}
		close(to.let)
	})
}

// TestLinesOfManyStayWhole is for the race detector as well.
func TestLinesOfManyStayWhole(t *testing.T) {
	var got bytes.Buffer
	w := New(&got, Room)
	var writing sync.WaitGroup
	for i := range 8 {
		writing.Go(func() {
			for range 500 {
				fmt.Fprintln(w, strings.Repeat(string(rune('a'+i)), 50))
			}
		})
	}
	writing.Wait()
	w.Close(10 * time.Second)
	lines := strings.Split(strings.TrimSuffix(got.String(), "\n"), "\n")
	if len(lines) != 8*500 || w.Lost() != 0 {
		t.Fatalf("%d lines, %d lost", len(lines), w.Lost())
	}
	for _, line := range lines {
		if len(line) != 50 || strings.Trim(line, line[:1]) != "" {
			t.Fatalf("line %q", line)
		}
	}
}

// BenchmarkWrite is what a connection pays for its line.
func BenchmarkWrite(b *testing.B) {
	w := New(io.Discard, Room)
	defer w.Close(time.Second)
	line := append(bytes.Repeat([]byte("x"), 700), '\n')
	b.ReportAllocs()
	for b.Loop() {
		w.Write(line)
	}
}
