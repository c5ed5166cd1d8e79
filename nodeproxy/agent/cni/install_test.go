// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
)

// host is the directories of a node, with an installation that runs.
type host struct {
	*Installation
	t    *testing.T
	stop func()
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, Installation: &Installation{BinDir: t.TempDir(), ConfDir: t.TempDir(), Entry: entry, Log: testr.New(t)}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

func (h *host) write(name, content string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.ConfDir, name), []byte(content), 0o640); err != nil {
		h.t.Fatal(err)
	}
}

// plugins gives the types of the plugins in a list, or nothing while it is not one.
func (h *host) plugins(name string) string {
	b, err := os.ReadFile(filepath.Join(h.ConfDir, name))
	if err != nil {
		return err.Error()
	}
	var list struct{ Plugins []struct{ Type string } }
	if err := json.Unmarshal(b, &list); err != nil {
		return err.Error()
	}
	var types []string
	for _, p := range list.Plugins {
		types = append(types, p.Type)
	}
	return strings.Join(types, " ")
}

// soon waits for less time than recheck, so that it is the watch that has to notice.
func (h *host) soon(what string, f func() bool) {
	h.t.Helper()
	for end := time.Now().Add(recheck * 9 / 10); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

const chained = "ptp portmap " + PluginName

func TestInstallation(t *testing.T) {
	h := newHost(t)
	binary := filepath.Join(h.BinDir, PluginName)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	inPlace := func() bool {
		b, err := os.ReadFile(binary)
		info, statErr := os.Stat(binary)
		return err == nil && statErr == nil && info.Mode() == 0o755 && bytes.Equal(b, self)
	}
	h.soon("the binary", inPlace)
	if h.Installed() {
		t.Error("installed without a list")
	}
	h.write("10-lab.conflist", lab)
	h.soon("the plugin in the list", func() bool { return h.plugins("10-lab.conflist") == chained && h.Installed() })
	h.write("20-other.conflist", lab)
	h.write("10-lab.conflist", lab)
	h.soon("the plugin after whoever installs the network wrote the list anew", func() bool { return h.plugins("10-lab.conflist") == chained })
	if got := h.plugins("20-other.conflist"); got != "ptp portmap" {
		t.Errorf("the second list has %s", got)
	}
	info, err := os.Stat(filepath.Join(h.ConfDir, "10-lab.conflist"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	h.write("05-lab.conflist", lab)
	h.soon("the plugin in a list that came before", func() bool { return h.plugins("05-lab.conflist") == chained })
	h.write("05-lab.conflist", "{")
	h.soon("a broken list to be noticed", func() bool { return !h.Installed() })
	if err := os.Remove(filepath.Join(h.ConfDir, "05-lab.conflist")); err != nil {
		t.Fatal(err)
	}
	h.soon("the next list", func() bool { return h.Installed() })

	for name, damage := range map[string]func() error{
		"removed":        func() error { return os.Remove(binary) },
		"another":        func() error { return os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755) },
		"not executable": func() error { return os.Chmod(binary, 0o644) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		h.soon("the binary, "+name, inPlace)
	}
	h.stop()
	if h.plugins("10-lab.conflist") != chained || !inPlace() {
		t.Error("stopping uninstalled the plugin")
	}
	h.uninstall()
	for _, name := range []string{"10-lab.conflist", "20-other.conflist"} {
		if got := h.plugins(name); got != "ptp portmap" {
			t.Errorf("%s has %s", name, got)
		}
	}
}

// uninstall uninstalls, and looks for what is left behind.
func (h *host) uninstall() {
	h.t.Helper()
	for range 2 {
		if err := h.Uninstall(false); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(h.BinDir, PluginName)); !errors.Is(err, fs.ErrNotExist) {
		h.t.Errorf("binary is still there: %v", err)
	}
	for _, dir := range []string{h.BinDir, h.ConfDir} {
		left, err := filepath.Glob(filepath.Join(dir, ".*.new"))
		if err != nil || len(left) > 0 {
			h.t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// TestSinglePlugin: a network that is configured as a single plugin, which no list can be added to. Its file is never touched.
func TestSinglePlugin(t *testing.T) {
	h := newHost(t)
	const single, wrapper = `{"cniVersion":"0.3.1","name":"bridge","type":"bridge","big":12345678901234567890}`, "00-isthmus.conflist"
	h.write("10-bridge.conf", single)
	h.soon("the list before it", func() bool { return h.plugins(wrapper) == "bridge "+PluginName && h.Installed() })
	b, err := os.ReadFile(filepath.Join(h.ConfDir, wrapper))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name": "bridge"`, `"cniVersion": "0.3.1"`, "12345678901234567890"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	h.write("10-bridge.conf", strings.ReplaceAll(single, "bridge", "macvlan"))
	h.soon("the list to follow", func() bool { return h.plugins(wrapper) == "macvlan "+PluginName })
	h.write("05-lab.conflist", lab)
	h.soon("a list to take its place", func() bool {
		return h.plugins("05-lab.conflist") == chained && strings.Contains(h.plugins(wrapper), fs.ErrNotExist.Error()) || strings.Contains(h.plugins(wrapper), "no such file")
	})
	if err := os.Remove(filepath.Join(h.ConfDir, "05-lab.conflist")); err != nil {
		t.Fatal(err)
	}
	h.soon("the list again", func() bool { return h.plugins(wrapper) == "macvlan "+PluginName })
	h.write("00-a.json", single)
	h.soon("one that nothing can come before", func() bool { return !h.Installed() })
	if err := os.Remove(filepath.Join(h.ConfDir, "00-a.json")); err != nil {
		t.Fatal(err)
	}
	h.soon("its end", func() bool { return h.Installed() })
	h.stop()
	h.uninstall()
	if _, err := os.Stat(filepath.Join(h.ConfDir, wrapper)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the list is still there: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(h.ConfDir, "10-bridge.conf")); err != nil || string(b) != strings.ReplaceAll(single, "bridge", "macvlan") {
		t.Errorf("the network's own file: %s, %v", b, err)
	}
}

// TestListBehindALink: the file that the link leads to is changed.
func TestListBehindALink(t *testing.T) {
	h := newHost(t)
	elsewhere := filepath.Join(t.TempDir(), "lab")
	if err := os.WriteFile(elsewhere, []byte(lab), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(h.ConfDir, "10-lab.conflist")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	h.soon("the plugin", func() bool { return h.plugins("10-lab.conflist") == chained })
	if to, err := os.Readlink(link); err != nil || to != elsewhere {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}
