// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Crash ends the process that serves as a crash does. The supervisor above it, which a proxy with ProxyOptions.Supervised has, begins another. It does not wait for that.
func (p *Proxy) Crash() error {
	pid, err := p.child()
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// child is the one process that the proxy's has begun.
func (p *Proxy) child() (pid int, err error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Pid()))
	if err != nil {
		return 0, err
	}
	var pids []string
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // the thread has ended
			return 0, err
		}
		pids = append(pids, strings.Fields(string(text))...)
	}
	if len(pids) != 1 {
		return 0, fmt.Errorf("process %d has %d children, want one", p.Pid(), len(pids))
	}
	return strconv.Atoi(pids[0])
}

// Strand takes the control plane away from the proxy, until Rejoin.
func (p *Proxy) Strand() { p.unserve() }

// Rejoin gives the control plane back to a proxy that was stranded.
func (p *Proxy) Rejoin() (err error) {
	p.unserve, err = p.node.Cluster.plane.serve(p.Space)
	return err
}
