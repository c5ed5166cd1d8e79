// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// killedMark has the test's own program be the one that is killed.
const killedMark = "ISTHMUS_TO_BE_KILLED"

func TestMain(m *testing.M) {
	if os.Getenv(killedMark) != "" {
		os.Exit(runUntilKilled())
	}
	os.Exit(m.Run())
}

// runUntilKilled starts an API server and says where its programs are.
func runUntilKilled() int {
	s, err := Start()
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	os.Stdout.WriteString(s.directory + "\n")
	select {}
}

// TestKilled kills a process that has an API server: nothing that it started is left.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), killedMark+"=1", "TMPDIR="+t.TempDir()) // which holds what a killed process leaves
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // killed
	defer func() { _ = cmd.Process.Kill() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("it did not start: %v", err)
	}
	directory := strings.TrimSuffix(line, "\n")
	if n := running(t, directory); n != 2 {
		t.Fatalf("%d programs run, of an API server and its etcd", n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		n := running(t, directory)
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d programs are left", n)
		}
	}
}

// running counts the processes that were called by a path in directory.
func running(t *testing.T, directory string) (n int) {
	t.Helper()
	calls, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		if line, err := os.ReadFile(call); err == nil && strings.HasPrefix(string(line), directory) { // gone meanwhile: not running
			n++
		}
	}
	return n
}
