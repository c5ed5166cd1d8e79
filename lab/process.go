// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// marker is set in the environment of every process of a lab, with the lab's name as its value, so that Down finds
// also those that were started but not recorded when Up was killed.
const marker = "ISTHMUS_LAB_PROCESS"

// process is a process of this machine, told apart from a later one with the same id by its start time.
type process struct {
	PID int `json:"pid"`
	// Start is in clock ticks since boot, field 22 of /proc/PID/stat (proc(5)).
	Start uint64 `json:"start"`
}

// parseStat reads what we need of /proc/PID/stat: the state letter, the parent and the start time. The command name,
// in parentheses, may itself contain spaces and parentheses, so fields are counted from the last one.
func parseStat(data []byte) (state byte, parent int, start uint64, err error) {
	_, rest, ok := bytes.Cut(data, []byte("("))
	end := bytes.LastIndexByte(rest, ')')
	if !ok || end < 0 {
		return 0, 0, 0, fmt.Errorf("process stat %q: no command name", data)
	}
	fields := strings.Fields(string(rest[end+1:])) // fields[0] is field 3 of proc(5)
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, 0, fmt.Errorf("process stat %q: too few fields", data)
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return 0, 0, 0, fmt.Errorf("process stat %q: parent: %w", data, err)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("process stat %q: start time: %w", data, err)
	}
	return fields[0][0], parent, start, nil
}

func readStat(pid int) (state byte, parent int, start uint64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0, err
	}
	return parseStat(data)
}

// lookUp makes the record of a running process.
func lookUp(pid int) (process, error) {
	_, _, start, err := readStat(pid)
	return process{PID: pid, Start: start}, err
}

// alive says whether the process still runs. A zombie, which only waits for its parent, does not.
func (p process) alive() bool {
	state, _, start, err := readStat(p.PID)
	return err == nil && start == p.Start && state != 'Z' && state != 'X'
}

// kill sends SIGKILL to the process if it is still the one that was recorded.
func (p process) kill() error {
	// The descriptor pins the process, so that the check and the signal are about the same one.
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	return nil
}

// killAll sends SIGKILL to all and waits until they are gone.
func killAll(ctx context.Context, all []process) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.kill())
	}
	for _, p := range all {
		errs = append(errs, poll(ctx, 5*time.Millisecond, func() error {
			if p.alive() {
				return fmt.Errorf("process %d still runs after SIGKILL", p.PID)
			}
			_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil) // collects it if it is our child; if not, it is init's to collect
			return nil
		}))
	}
	return errors.Join(errs...)
}

// poll calls f until it returns nil, and when ctx ends returns f's last error.
func poll(ctx context.Context, every time.Duration, f func() error) error {
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-timer.C:
			timer.Reset(every)
		}
	}
}

// spawn describes a process of the lab that outlives the one that starts it.
type spawn struct {
	name       string // of its record, for example east-n1
	netns      string // path; empty for the host's own
	cloneFlags uintptr
	args       []string   // arguments of the lab's own program
	log        string     // path of the file that gets its output
	files      []*os.File // descriptors 3 and on; the caller closes its own
}

// start starts the lab's own program in the background, in its own session, and records it.
func (p places) start(s spawn) (process, error) {
	if err := os.MkdirAll(p.processes(), 0o755); err != nil {
		return process{}, err
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	cmd := exec.Command(p.program(), s.args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = s.files
	cmd.Env = append(cleanEnvironment(), marker+"="+p.name, "ISTHMUS_CACHE="+p.cache)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: s.cloneFlags}
	run := func() (struct{}, error) { return struct{}{}, cmd.Start() }
	if s.netns == "" {
		_, err = run()
	} else {
		_, err = inNetns(s.netns, run)
	}
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", s.name, err)
	}
	started, err := lookUp(cmd.Process.Pid)
	// It is to outlive us. If it ends first, it stays a zombie, which counts as dead, until killAll or our own end.
	_ = cmd.Process.Release()
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", s.name, err)
	}
	data, err := json.Marshal(started)
	if err != nil {
		return process{}, err
	}
	return started, writeFile(p.processFile(s.name), data, 0o644)
}

func (p places) processFile(name string) string { return filepath.Join(p.processes(), name+".json") }

// recorded returns the processes that were recorded, by name. A torn or foreign file is not an error: the scan
// finds what it stood for.
func (p places) recorded() (map[string]process, error) {
	entries, err := os.ReadDir(p.processes())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := map[string]process{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		if one, err := readProcess(p.processFile(name)); err == nil {
			found[name] = one
		}
	}
	return found, nil
}

func readProcess(path string) (process, error) {
	var one process
	data, err := os.ReadFile(path)
	if err != nil {
		return one, err
	}
	if err := json.Unmarshal(data, &one); err != nil {
		return one, fmt.Errorf("%s: %w", path, err)
	}
	if one.PID <= 1 {
		return one, fmt.Errorf("%s: process id %d is not one of ours", path, one.PID)
	}
	return one, nil
}

// scan finds the lab's processes without any record: by the marker in their environment, and by being in one of the
// lab's network namespaces. The caller and its ancestors (a shell inside `lab exec`, say) are left out.
func (p places) scan() ([]process, error) {
	paths, err := labNetns(p.name)
	if err != nil {
		return nil, err
	}
	ours := map[netnsID]bool{}
	for _, path := range paths {
		if id, err := readNetnsID(path); err == nil {
			ours[id] = true
		}
	}
	// A name whose mount is already gone is a plain file, of the directory's own device: never in a process's link.
	spared := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !spared[pid]; {
		spared[pid] = true
		if _, pid, _, err = readStat(pid); err != nil {
			break
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	want := []byte(marker + "=" + p.name)
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || spared[pid] {
			continue
		}
		one, err := lookUp(pid)
		if err != nil || !one.alive() {
			continue // it ended while we looked
		}
		id, err := readNetnsID(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil && ours[id] {
			found = append(found, one)
			continue
		}
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && slices.ContainsFunc(bytes.Split(environment, []byte{0}), func(v []byte) bool { return bytes.Equal(v, want) }) {
			found = append(found, one)
		}
	}
	return found, nil
}

// cleanEnvironment is a small, fixed environment: what the caller's shell holds must not change a cluster.
func cleanEnvironment() []string {
	return []string{"HOME=/root", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}
