// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const statLine = `4242 (a) b (c)) S 17 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3`

func TestParseStat(t *testing.T) {
	state, parent, start, err := parseStat([]byte(statLine))
	if state != 'S' || parent != 17 || start != 987654 || err != nil {
		t.Errorf("state %c, parent %d, start %d, %v", state, parent, start, err)
	}
	for _, torn := range []string{"", "1", "1 (x", "1 (x) S 1", `1 (x) SS 17 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654`} {
		if _, _, _, err := parseStat([]byte(torn)); err == nil {
			t.Errorf("%q is accepted", torn)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(statLine))
	f.Add([]byte("1 ()"))
	f.Fuzz(func(t *testing.T, data []byte) { parseStat(data) })
}

func TestKillOnlyTheRecordedProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	one, err := lookUp(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	later := one
	later.Start++
	if err := later.kill(); err != nil {
		t.Fatal(err)
	}
	if !one.alive() || later.alive() {
		t.Fatalf("after killing a later process of the same id: %t, %t", one.alive(), later.alive())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := killAll(ctx, []process{one}); err != nil {
		t.Fatal(err)
	}
	if one.alive() {
		t.Error("it lives")
	}
	if err := one.kill(); err != nil {
		t.Errorf("killing it again: %v", err)
	}
}

func TestReadProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "one.json")
	for content, ok := range map[string]bool{`{"pid":4242,"start":7}`: true, `{"pid":1,"start":7}`: false, `{"pid":-1}`: false, `{"pid":`: false, "": false} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		one, err := readProcess(path)
		if (err == nil) != ok || ok && one != (process{PID: 4242, Start: 7}) {
			t.Errorf("%q: %+v, %v", content, one, err)
		}
	}
}

// A lock that is held keeps others waiting, and they give up with their context.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := lockFile(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := 0
	if _, err := lockFile(ctx, path, func() { waits++; cancel() }); err == nil || waits != 1 {
		t.Errorf("second lock: %v after %d waits", err, waits)
	}
	release()
	release, err = lockFile(t.Context(), path, func() { t.Error("waited for a lock that is free") })
	if err != nil {
		t.Fatal(err)
	}
	release()
}
