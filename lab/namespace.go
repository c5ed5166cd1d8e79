// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// netnsDirectory is where named network namespaces are, for ip(8) and nsenter(1) too.
const netnsDirectory = "/run/netns"

// onOwnThread runs f on an operating-system thread that ends afterwards, so that f may change the thread's
// namespaces for good. The process's first thread is never used: /proc/self shows its namespaces.
func onOwnThread[T any](f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	results := make(chan result, 1)
	var run func()
	run = func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds the first thread, the next one must be on another.
			done := make(chan struct{})
			go func() { defer close(done); run() }()
			<-done
			runtime.UnlockOSThread()
			return
		}
		value, err := f()
		results <- result{value, err}
	}
	go run()
	r := <-results
	return r.value, r.err
}

// inNetns runs f on a thread of its own inside the network namespace that the file at path names.
// Sockets that f opens stay in that namespace; goroutines that f starts are not in it.
func inNetns[T any](path string, f func() (T, error)) (T, error) {
	return onOwnThread(func() (T, error) {
		var none T
		if err := enter(path, unix.CLONE_NEWNET); err != nil {
			return none, err
		}
		return f()
	})
}

// enter moves the calling thread, which must be locked, into the namespace that path names.
func enter(path string, kind int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, kind); err != nil {
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	return nil
}

// createNetns makes a network namespace with its loopback up and the name of path.
func createNetns(path string, sysctls map[string]string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("create namespace %s: %w", path, err)
	}
	file.Close()
	_, err = onOwnThread(func() (struct{}, error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return struct{}{}, fmt.Errorf("new network namespace: %w", err)
		}
		for key, value := range sysctls {
			if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
				return struct{}{}, fmt.Errorf("set %s in namespace %s: %w", key, path, err)
			}
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return struct{}{}, fmt.Errorf("name namespace %s: %w", path, err)
		}
		return struct{}{}, nil
	})
	return err
}

// deleteNetns takes the name away; the namespace goes when its last process and socket have gone.
func deleteNetns(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// labNetns lists the paths of the network namespaces of one lab, or of all labs if name is empty.
func labNetns(name string) ([]string, error) {
	entries, err := os.ReadDir(netnsDirectory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var paths []string
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), netnsPrefix)
		owner, _, dashed := strings.Cut(rest, "-")
		if ok && dashed && (name == "" || owner == name) && CheckName(owner) == nil {
			paths = append(paths, filepath.Join(netnsDirectory, entry.Name()))
		}
	}
	return paths, nil
}

// netnsID identifies the namespace behind a name or a /proc/PID/ns/net link.
type netnsID struct{ device, inode uint64 }

func readNetnsID(path string) (netnsID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return netnsID{}, fmt.Errorf("stat %s: %w", path, err)
	}
	return netnsID{device: uint64(st.Dev), inode: st.Ino}, nil //nolint:unconvert // Dev is narrower on some architectures
}
