// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// controllers are the hierarchies in which kubelet wants a node's root cgroup to exist (cgroup v1).
var controllers = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"}

// unifiedControllers are those that a node's pods need (cgroup v2).
const unifiedControllers = "+cpu +cpuset +io +memory +pids"

// unified says whether the machine has cgroup v2 only.
func unified() (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err != nil {
		return false, fmt.Errorf("statfs %s: %w", cgroupRoot, err)
	}
	return fs.Type == unix.CGROUP2_SUPER_MAGIC, nil
}

// createCgroup makes a cgroup, relative to the root, in every hierarchy that a node needs.
func createCgroup(path string) error {
	v2, err := unified()
	if err != nil {
		return err
	}
	if v2 {
		return createUnified(path)
	}
	for _, controller := range controllers {
		root := filepath.Join(cgroupRoot, controller)
		if _, err := os.Stat(root); err != nil {
			return fmt.Errorf("cgroup controller %s: %w", controller, err)
		}
		directory := root
		for _, element := range strings.Split(path, "/") {
			parent := directory
			directory = filepath.Join(directory, element)
			if err := os.MkdirAll(directory, 0o755); err != nil {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if controller != "cpuset" {
				continue
			}
			// A new cpuset is empty, and an empty one can hold no process.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				value, err := os.ReadFile(filepath.Join(parent, file))
				if err == nil {
					err = os.WriteFile(filepath.Join(directory, file), value, 0)
				}
				if err != nil {
					return fmt.Errorf("fill cpuset %s: %w", directory, err)
				}
			}
		}
	}
	return nil
}

func createUnified(path string) error {
	directory := cgroupRoot
	for _, element := range strings.Split(path, "/") {
		if err := os.WriteFile(filepath.Join(directory, "cgroup.subtree_control"), []byte(unifiedControllers), 0); err != nil {
			return fmt.Errorf("give controllers to the children of %s: %w", directory, err)
		}
		directory = filepath.Join(directory, element)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// cgroupDirectories lists where the cgroup is on this machine: once per hierarchy that has it.
func cgroupDirectories(path string) []string {
	candidates := []string{filepath.Join(cgroupRoot, path)}
	if entries, err := os.ReadDir(cgroupRoot); err == nil {
		for _, entry := range entries {
			candidates = append(candidates, filepath.Join(cgroupRoot, entry.Name(), path))
		}
	}
	var found []string
	for _, directory := range candidates {
		if info, err := os.Lstat(directory); err == nil && info.IsDir() {
			found = append(found, directory)
		}
	}
	return found
}

// removeCgroup removes a cgroup and all below it, in all hierarchies. Processes that were just killed leave theirs
// a moment later, so it tries until ctx ends.
func removeCgroup(ctx context.Context, path string) error {
	return poll(ctx, 20*time.Millisecond, func() error {
		var errs []error
		for _, top := range cgroupDirectories(path) {
			var directories []string
			err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					directories = append(directories, path)
				}
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			})
			errs = append(errs, err)
			for _, directory := range slices.Backward(directories) { // children before parents
				if err := unix.Rmdir(directory); err != nil && !errors.Is(err, unix.ENOENT) {
					errs = append(errs, fmt.Errorf("remove cgroup %s: %w", directory, err))
				}
			}
		}
		return errors.Join(errs...)
	})
}
