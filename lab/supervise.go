// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

// supervisor runs a machine's programs. It is the machine's first process: whatever ends without a parent becomes its
// child, so it collects all children itself and os/exec must not.
type supervisor struct {
	log  logr.Logger
	logs string   // directory of the programs' output
	env  []string // of every program

	// mu is held from before a child is started until it is in children, so that one which ends at once is known.
	mu       sync.Mutex
	children map[int]chan<- syscall.WaitStatus
}

func newSupervisor(log logr.Logger, logs string, env []string) *supervisor {
	return &supervisor{log: log, logs: logs, env: env, children: map[int]chan<- syscall.WaitStatus{}}
}

// reap collects children until ctx ends.
func (s *supervisor) reap(ctx context.Context) {
	ended := make(chan os.Signal, 1) // one place: signals merge anyway, and each one empties the queue of children
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if pid <= 0 || err != nil {
				break
			}
			s.mu.Lock()
			waiter := s.children[pid]
			delete(s.children, pid)
			s.mu.Unlock()
			if waiter != nil {
				waiter <- status
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

// start starts one program; its status arrives on the channel when it has ended.
func (s *supervisor) start(name string, argv []string) (<-chan syscall.WaitStatus, error) {
	output, err := os.OpenFile(filepath.Join(s.logs, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = s.env, "/"
	cmd.Stdout, cmd.Stderr = output, output
	status := make(chan syscall.WaitStatus, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.children[cmd.Process.Pid] = status
	return status, cmd.Process.Release()
}

// run runs a program that ends, such as an import.
func (s *supervisor) run(ctx context.Context, name string, argv ...string) error {
	ended, err := s.start(name, argv)
	if err != nil {
		return err
	}
	select {
	case status := <-ended:
		if status.ExitStatus() != 0 {
			return fmt.Errorf("%s: %s: see %s", strings.Join(argv, " "), describe(status), filepath.Join(s.logs, name+".log"))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), ctx.Err())
	}
}

// keep runs a program for ever, starting it again when it ends: after half a second at first, at most ten later.
func (s *supervisor) keep(ctx context.Context, name string, argv ...string) {
	const first, most = 500 * time.Millisecond, 10 * time.Second
	for pause := first; ; pause = min(2*pause, most) {
		began := time.Now()
		ended, err := s.start(name, argv)
		if err != nil {
			s.log.Error(err, "cannot start program", "program", name)
		} else {
			select {
			case status := <-ended:
				s.log.Info("program ended", "program", name, "status", describe(status), "after", time.Since(began).String())
			case <-ctx.Done():
				return
			}
		}
		if time.Since(began) > most {
			pause = first
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
