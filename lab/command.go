// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// filter loads nftables rules in a network namespace.
func (p places) filter(netns, rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if _, err := inNetns(netns, func() (struct{}, error) { return struct{}{}, cmd.Start() }); err != nil {
		return fmt.Errorf("start nft in %s: %w", netns, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("nft in %s: %w: %s", netns, err, strings.TrimSpace(output.String()))
	}
	return nil
}

// startInside starts a command in all namespaces of the machine whose first process is given. The caller waits for it.
func startInside(first process, cmd *exec.Cmd) error {
	_, err := onOwnThread(func() (struct{}, error) {
		// One descriptor for the process enters all its namespaces in one step, and cannot mean another process.
		fd, err := unix.PidfdOpen(first.PID, 0)
		if err != nil || !first.alive() {
			if err == nil {
				unix.Close(fd)
				err = syscall.ESRCH
			}
			return struct{}{}, fmt.Errorf("process %d of the machine: %w", first.PID, err)
		}
		defer unix.Close(fd)
		// A thread that shares its working directory with others may not change its mounts.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return struct{}{}, fmt.Errorf("unshare working directory: %w", err)
		}
		const all = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
		if err := unix.Setns(fd, all); err != nil {
			return struct{}{}, fmt.Errorf("enter the machine of process %d: %w", first.PID, err)
		}
		return struct{}{}, cmd.Start()
	})
	return err
}
