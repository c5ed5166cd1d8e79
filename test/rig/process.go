// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that runs in a namespace.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended
}

// Start runs a command inside the namespace. It is killed if this process dies.
func (s *Space) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		defer close(p.ended)
		// The thread stays for as long as the process runs, because its end would be taken for ours, and is never used again.
		runtime.LockOSThread()
		err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = cmd.Start()
		}
		if started <- err; err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal; to a process that has ended already it does nothing.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits for its end and says how that was.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// Kill ends it as a crash does, and waits.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.ended
	return err
}

// Usage is what a process has used.
type Usage struct {
	Processor time.Duration // since its start, user and kernel mode
	Resident  int64         // bytes in memory now
}

// clockTick is the unit of times in /proc: USER_HZ is 100 on every architecture that Go has for Linux.
const clockTick = time.Second / 100

// Usage reads what a running process has used so far; processor time to a hundredth of a second.
func (p *Process) Usage() (Usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return Usage{}, err
	}
	// The name in parentheses may hold anything; what is behind it are numbers from the third field on (proc_pid_stat(5)).
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 22 {
		return Usage{}, fmt.Errorf("process %d: stat has %d fields", p.Pid(), len(fields)+2)
	}
	number := func(field int) (n int64) {
		if err == nil {
			n, err = strconv.ParseInt(fields[field-3], 10, 64)
		}
		return n
	}
	u := Usage{Processor: time.Duration(number(14)+number(15)) * clockTick, Resident: number(24) * int64(os.Getpagesize())}
	return u, err
}
