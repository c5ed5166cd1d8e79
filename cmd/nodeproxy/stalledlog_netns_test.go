// SPDX-License-Identifier: Apache-2.0

//go:build netns

package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLogThatNobodyReads: the pipe at standard output is full from the beginning. Connections go on, readiness is told, and the process ends when it is told to.
func TestLogThatNobodyReads(t *testing.T) {
	s := newStage(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(os.Args[0], s.args...)}
	p.cmd.Env = append(os.Environ(), asProcess+"=1")
	p.cmd.Stdout, p.cmd.Stderr = w, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		if t.Failed() {
			t.Log(p.String())
		}
	})
	eventually(t, "the process serves its readiness", func() error { return get("http://"+s.metrics+"/metrics", "isthmus_log_lines_lost_total 0") })
	s.addPods(t)
	eventually(t, "an answer", s.call)
	for range 20 {
		if err := s.call(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "readiness", s.isReady("ready"))
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("told to end, it waits for somebody to read its log")
	}
}
