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

// recheck is how often the node's configuration is looked at again: whoever installs the cluster's network may write it anew.
const recheck = 2 * time.Second

// Installation is the plugin on this node. It stays when the agent stops, so that pods that start while the agent is being replaced
// wait for it; only Uninstall takes it away.
type Installation struct {
	BinDir  string // where the runtime looks for plugins
	ConfDir string // where the runtime looks for their configuration
	Entry   Entry
	Log     logr.Logger

	installed atomic.Bool
}

// Installed says whether the plugin was in place when it was last looked at.
func (i *Installation) Installed() bool { return i.installed.Load() }

// Run copies this process's binary to the node, and keeps it in the node's list of plugins until ctx ends. It returns an error only
// if the binary cannot be copied; a list that is not there yet, or not readable, is logged when that changes, and waited for.
func (i *Installation) Run(ctx context.Context) error {
	if err := i.copyBinary(); err != nil {
		return fmt.Errorf("install the CNI plugin: %w", err)
	}
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	said := ""
	for {
		changed, err := i.configure()
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
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Uninstall takes the plugin out of every list on the node, then removes its binary.
func (i *Installation) Uninstall() error {
	files, err := i.lists()
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		_, err := rewrite(file, withoutPlugin)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // without its binary, a list that names the plugin would stop every pod
	}
	if err := os.Remove(filepath.Join(i.BinDir, PluginName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lists gives the node's lists of plugins in the order in which runtimes look at them.
func (i *Installation) lists() ([]string, error) {
	return filepath.Glob(filepath.Join(i.ConfDir, "*.conflist")) // sorted
}

// configure puts the plugin into the list that the runtime uses: the first.
func (i *Installation) configure() (changed bool, err error) {
	files, err := i.lists()
	if err != nil {
		return false, err
	}
	if len(files) == 0 {
		return false, fmt.Errorf("no .conflist in %s yet", i.ConfDir)
	}
	return rewrite(files[0], func(list []byte) ([]byte, bool, error) { return withPlugin(list, i.Entry) })
}

// rewrite changes a file at once: readers see the old one or the new one.
func rewrite(file string, change func([]byte) ([]byte, bool, error)) (bool, error) {
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
	return true, replaceFile(file, bytes.NewReader(after), info.Mode().Perm())
}

func (i *Installation) copyBinary() error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	return replaceFile(filepath.Join(i.BinDir, PluginName), self, 0o755)
}

// replaceFile writes a file beside and renames it. The name beside begins with a dot and ends in nothing that a runtime looks for.
func replaceFile(file string, content io.Reader, mode fs.FileMode) (err error) {
	dir, name := filepath.Split(file)
	beside, err := os.CreateTemp(dir, "."+name+".*.new")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			beside.Close()
			_ = os.Remove(beside.Name())
		}
	}()
	if _, err := io.Copy(beside, content); err != nil {
		return err
	}
	if err := beside.Chmod(mode); err != nil {
		return err
	}
	if err := beside.Sync(); err != nil {
		return err
	}
	if err := beside.Close(); err != nil {
		return err
	}
	return os.Rename(beside.Name(), file)
}
