// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

const (
	// recheck is how often the node's configuration is looked at although the kernel told of no change.
	recheck = 5 * time.Second
	// Whoever installs the cluster's network may write its configuration anew, and may undo ours whenever it sees it. We put it back at
	// once, then after firstPause, doubling to lastPause, and at once again after some peace.
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
	peace      = 10 * time.Second
)

// Installation is the plugin on this node. It stays when the agent stops, so that pods that start while the agent is being replaced
// wait for it; only Uninstall takes it away.
type Installation struct {
	BinDir  string // where the runtime looks for plugins
	ConfDir string // where the runtime looks for their configuration
	Entry   Entry
	Log     logr.Logger

	installed atomic.Bool

	// Owned by Run:
	binary fs.FileInfo // what we copied
}

// Installed says whether the plugin was in place when it was last looked at.
func (i *Installation) Installed() bool { return i.installed.Load() }

// Run copies this process's binary to the node, and keeps it and its entry in the node's configuration until ctx ends. It returns an
// error only if the binary cannot be copied at first; a configuration that is not there yet, or not readable, is logged when that
// changes, and waited for.
func (i *Installation) Run(ctx context.Context) error {
	if err := i.copyBinary(); err != nil {
		return fmt.Errorf("install the CNI plugin: %w", err)
	}
	watch, err := newWatch()
	if err != nil {
		i.Log.Error(err, "changes of the CNI configuration are noticed late")
	} else {
		defer watch.close()
	}
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	said, pause, undone := "", time.Duration(0), time.Now()
	for {
		// Watched before it is looked at: what changes in between wakes us.
		watch.add(i.BinDir, i.ConfDir)
		changed, err := i.install()
		switch {
		case err != nil && err.Error() != said:
			i.Log.Error(err, "CNI configuration not ready")
			said = err.Error()
		case err == nil && changed:
			i.Log.Info("CNI plugin configured", "directory", i.ConfDir)
			said = ""
		case err == nil:
			said = ""
		}
		i.installed.Store(err == nil)
		if changed {
			if time.Since(undone) > peace {
				pause = 0
			}
			undone = time.Now()
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(max(firstPause, pause*2), lastPause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-watch.changed():
		}
	}
}

// install puts binary and entry in place, in this order: a configuration that names a plugin that is not there stops every pod.
func (i *Installation) install() (changed bool, err error) {
	now, err := os.Stat(i.binaryPath())
	if err != nil || !os.SameFile(now, i.binary) ||
		now.Size() != i.binary.Size() || !now.ModTime().Equal(i.binary.ModTime()) || now.Mode() != i.binary.Mode() {
		if err := i.copyBinary(); err != nil {
			return false, err
		}
		i.Log.Info("CNI plugin's binary was gone or another one, and was put back", "directory", i.BinDir)
		changed = true
	}
	configured, err := i.configure()
	return changed || configured, err
}

// Uninstall takes the plugin out of every configuration on the node, then removes its binary. With keepBinary that stays, for a runtime that ends pods by the list of plugins that they
// began with; there is nothing for it to do then.
func (i *Installation) Uninstall(keepBinary bool) error {
	files, err := i.configurations()
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		if filepath.Ext(file) != ".conflist" {
			continue
		}
		if _, err := rewrite(file, withoutPlugin); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, removeFile(i.wrapperPath()))
	if err := errors.Join(errs...); err != nil || keepBinary {
		return err // without its binary, a list that names the plugin would stop every pod
	}
	return removeFile(i.binaryPath())
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (i *Installation) binaryPath() string { return filepath.Join(i.BinDir, PluginName) }

// wrapperPath is a list of our own, made when the network's configuration is a single plugin. It has to come before that one.
func (i *Installation) wrapperPath() string { return filepath.Join(i.ConfDir, "00-isthmus.conflist") }

// configurations gives the files in which others configure networks, in the order in which runtimes look at them.
func (i *Installation) configurations() ([]string, error) {
	entries, err := os.ReadDir(i.ConfDir) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		file := filepath.Join(i.ConfDir, e.Name())
		switch filepath.Ext(file) {
		case ".conf", ".conflist", ".json":
			if !e.IsDir() && file != i.wrapperPath() {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// configure puts the plugin into the list that the runtime uses, the first. If the first is not a list but a single plugin, that file
// stays as it is, and a list of both comes before it.
func (i *Installation) configure() (changed bool, err error) {
	files, err := i.configurations()
	if err != nil {
		return false, err
	}
	if len(files) == 0 {
		// A list without the network that it was made from would give pods no network.
		return false, errors.Join(fmt.Errorf("no network is configured in %s yet", i.ConfDir), removeFile(i.wrapperPath()))
	}
	first := files[0]
	if filepath.Ext(first) == ".conflist" {
		if changed, err = rewrite(first, func(list []byte) ([]byte, bool, error) { return withPlugin(list, i.Entry) }); err != nil {
			return false, err
		}
		return changed, removeFile(i.wrapperPath())
	}
	if first < i.wrapperPath() {
		return false, fmt.Errorf("%s is a single plugin and comes before everything that could be put before it: make it a .conflist, or rename it", first)
	}
	single, err := os.ReadFile(first)
	if err != nil {
		return false, err
	}
	list, err := wrapped(single, i.Entry)
	if err != nil {
		return false, fmt.Errorf("%s: %w", first, err)
	}
	if now, err := os.ReadFile(i.wrapperPath()); err == nil && bytes.Equal(now, list) {
		return false, nil
	}
	_, err = replaceFile(i.wrapperPath(), bytes.NewReader(list), 0o644)
	return true, err
}

// rewrite changes a file at once: readers see the old one or the new one. What a link leads to is changed, and the link stays.
func rewrite(file string, change func([]byte) ([]byte, bool, error)) (bool, error) {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false, err
	}
	before, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	after, changed, err := change(before)
	if err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	if !changed {
		return false, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return false, err
	}
	_, err = replaceFile(file, bytes.NewReader(after), info.Mode().Perm())
	return true, err
}

func (i *Installation) copyBinary() error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	i.binary, err = replaceFile(i.binaryPath(), self, 0o755)
	return err
}

// replaceFile writes a file beside and renames it, and gives what it wrote, whatever somebody does to it afterwards. The name beside
// begins with a dot and ends in nothing that a runtime looks for.
func replaceFile(file string, content io.Reader, mode fs.FileMode) (written fs.FileInfo, err error) {
	dir, name := filepath.Split(file)
	beside, err := os.CreateTemp(dir, "."+name+".*.new")
	if err != nil {
		return nil, err
	}
	defer func() {
		beside.Close()
		if err != nil {
			_ = os.Remove(beside.Name())
		}
	}()
	if _, err := io.Copy(beside, content); err != nil {
		return nil, err
	}
	if err := beside.Chmod(mode); err != nil {
		return nil, err
	}
	if err := beside.Sync(); err != nil {
		return nil, err
	}
	if written, err = beside.Stat(); err != nil {
		return nil, err
	}
	// Closed first: a file that is open for writing cannot be executed.
	if err := beside.Close(); err != nil {
		return nil, err
	}
	if err := os.Rename(beside.Name(), file); err != nil {
		return nil, err
	}
	// The name, too, has to survive the node's crash.
	directory, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	return written, directory.Sync()
}
