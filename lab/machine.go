// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
)

// machineFlags are the namespaces of a machine's own, besides its network: with its process-id namespace everything
// on it, mounts included, ends when its first process is killed.
const machineFlags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// startMachine starts a machine of a cluster: its control plane (index 0) or node index.
func (p places) startMachine(cluster string, index int) (process, error) {
	name := machineName(cluster, index)
	directory := p.box(cluster, name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return process{}, err
	}
	return p.start(spawn{
		name: name, netns: p.netns(name), cloneFlags: machineFlags, log: directory + "/init.log",
		args: []string{"internal", "machine", p.name, cluster, strconv.Itoa(index)},
	})
}

func machineName(cluster string, index int) string {
	if index == 0 {
		return cluster + "-cp"
	}
	return nodeName(cluster, index)
}

// RunMachine is the first process of a machine, as startMachine starts it. It returns only on failure.
func RunMachine(ctx context.Context, log logr.Logger, name, cluster string, index int) error {
	if os.Getpid() != 1 {
		return errors.New("not the first process of a machine: this command is for the lab's own use")
	}
	p, err := placesOf(name)
	if err != nil {
		return err
	}
	r, err := p.readRecord()
	if err != nil {
		return err
	}
	c, err := clusterOf(p, r, cluster)
	if err != nil {
		return err
	}
	self := machineName(cluster, index)
	if err := unix.Sethostname([]byte(self)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	// Private first, so that nothing of this machine reaches the host; then shared among the machine's own mount
	// namespaces, which mountPropagation of pods needs.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	env := append(cleanEnvironment(), marker+"="+name)
	for i, variable := range env {
		if rest, ok := strings.CutPrefix(variable, "PATH="); ok {
			env[i] = "PATH=" + p.bin() + ":" + rest // containerd looks for its shim and runc there
		}
	}
	s := newSupervisor(log, p.box(cluster, self), env)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { s.reap(ctx) })
	if index == 0 {
		return c.runControlPlane(ctx, s)
	}
	return c.runNode(ctx, s, index)
}
