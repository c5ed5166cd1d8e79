// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
)

// script supervises a shell that writes a line to a file each time it is begun, and a line "up" when the text says so.
func script(t *testing.T, text string, up func()) (status int, begun []string, log string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "begun")
	done := make(chan struct{})
	if up != nil {
		go func() {
			defer close(done)
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				if _, err := os.Stat(file + ".up"); err == nil {
					up()
					return
				}
			}
			t.Error("the process never was up")
		}()
	} else {
		close(done)
	}
	var lines strings.Builder
	log0 := funcr.NewJSON(func(s string) { lines.WriteString(s + "\n") }, funcr.Options{})
	status = supervise("/bin/sh", []string{"-c", `echo "$` + restartsEnv + `" >> "$FILE"; ` + text}, append(os.Environ(), "FILE="+file), log0)
	<-done
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return status, strings.Fields(string(data)), lines.String()
}

// TestSupervise ends as its process does, except for crashes.
func TestSupervise(t *testing.T) {
	for name, tc := range map[string]struct {
		text   string
		status int
		begun  int
	}{
		"an orderly end":            {"exit 0", 0, 1},
		"flags that cannot be read": {"exit 2", 2, 1},
		"killed once":               {`[ "$` + restartsEnv + `" = 1 ] || kill -9 $$`, 0, 2},
		"three failures":            {`[ "$` + restartsEnv + `" = 3 ] || exit 1`, 0, 4},
		"always":                    {"exit 7", 7, maxCrashes},
	} {
		t.Run(name, func(t *testing.T) {
			status, begun, log := script(t, tc.text, nil)
			if status != tc.status || len(begun) != tc.begun {
				t.Errorf("ended with %d after %q, want %d after %d\n%s", status, begun, tc.status, tc.begun, log)
			}
			if crashes := strings.Count(log, "beginning again"); tc.begun < maxCrashes && crashes != tc.begun-1 {
				t.Errorf("%d crashes in the log, want %d", crashes, tc.begun-1)
			}
		})
	}
}

// TestSupervisorPassesSignalsOn tells the supervisor to end: its process hears of it, takes its time, and is not begun again, whatever its status.
func TestSupervisorPassesSignalsOn(t *testing.T) {
	up := func() { syscall.Kill(os.Getpid(), syscall.SIGTERM) } // supervise listens for it: it does not end this test
	status, begun, log := script(t, `trap 'exit 5' TERM; : > "$FILE.up"; while :; do sleep 0.01; done`, up)
	if status != 5 || len(begun) != 1 {
		t.Errorf("ended with %d after %q\n%s", status, begun, log)
	}
}
