// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestSetMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) })
	file := filepath.Join(t.TempDir(), "memory.max")
	for _, tc := range []struct {
		text        string
		env         map[string]string
		wantPercent int
		wantLimit   int64
	}{
		{"max\n", nil, 400, limit},
		{"1000000000\n", nil, 400, 900000000},
		{"1000000000\n", map[string]string{"GOGC": "100", "GOMEMLIMIT": "1GiB"}, 100, limit},
		{"", nil, 400, limit},
	} {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(limit)
		if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		m := setMemory(400, func(name string) string { return tc.env[name] }, file)
		if got := debug.SetGCPercent(100); got != tc.wantPercent {
			t.Errorf("%q, %v: %d %%, want %d %%", tc.text, tc.env, got, tc.wantPercent)
		}
		if got := debug.SetMemoryLimit(-1); got != tc.wantLimit {
			t.Errorf("%q, %v: a limit of %d, want %d", tc.text, tc.env, got, tc.wantLimit)
		}
		bounded := tc.wantLimit != limit
		for file, want := range map[int64]int64{0: 900_000_000, 100_000_000: 720_000_000, 400_000_000: 450_000_000, 1 << 60: 450_000_000} {
			if !bounded {
				want = limit
			}
			told := int64(-1)
			m.changed = func() { told = debug.SetMemoryLimit(-1) }
			m.without(file)
			if got := debug.SetMemoryLimit(-1); got != want || bounded != (told == want) {
				t.Errorf("%q, %v, a file of %d bytes: a limit of %d, want %d; told %d", tc.text, tc.env, file, got, want, told)
			}
		}
	}
}
