// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestModuleToolchain(t *testing.T) {
	for content, want := range map[string]string{
		"module x\n\ngo 1.26.0\n\ntoolchain go1.26.8\n": "go1.26.8",
		"module x\n\ngo 1.26.8\n":                       "go1.26.8",
		"module x\n":                                    "",
	} {
		directory := t.TempDir()
		if err := os.WriteFile(filepath.Join(directory, "go.mod"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := moduleToolchain(directory)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
}

// What is built is made again when a source or the way to build it changes, and only then.
func TestComponentKey(t *testing.T) {
	source := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(source, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module x\n\ngo 1.26.0\n")
	write("main.go", "package main\n")
	c := component{name: "x", programs: map[string]string{"x": "."}}
	keys := map[string]string{}
	note := func(what string, c component) {
		t.Helper()
		key, err := c.key(source)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := keys[key]; ok {
			t.Errorf("%s has the key of %s", what, other)
		}
		keys[key] = what
	}
	note("first", c)
	if key, err := c.key(source); err != nil || keys[key] != "first" {
		t.Errorf("the key is not stable: %v", err)
	}
	tagged := c
	tagged.tags = "t"
	note("tags", tagged)
	write("main.go", "package main // changed\n")
	note("source", c)
	write("go.mod", "module x\n\ngo 1.26.0\n\ntoolchain go1.26.9\n")
	note("toolchain", c)
}

func TestBuiltNeedsAllFiles(t *testing.T) {
	bin := t.TempDir()
	c := component{name: "x", programs: map[string]string{"x": "."}, links: []string{"y"}}
	for _, name := range []string{"x", "y"} {
		if c.built(bin, "key") {
			t.Errorf("built without %s", name)
		}
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.keyFile(bin), []byte("key\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !c.built(bin, "key") || c.built(bin, "other key") {
		t.Error("the key is not looked at")
	}
}

// Every tool that a process of the lab runs is built by some component, and every component has its module here.
func TestComponentsAreComplete(t *testing.T) {
	var made []string
	for _, c := range components {
		made = append(made, c.files()...)
		if _, err := moduleToolchain(filepath.Join("tools", c.name)); err != nil {
			t.Error(err)
		}
	}
	wanted := append([]string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "containerd-shim-runc-v2", "ctr",
		"runc", "kubelet", "kube-proxy", "kubectl", "coredns", "pause",
	}, cniPlugins...)
	for _, name := range wanted {
		if !slices.Contains(made, name) {
			t.Errorf("nobody builds %s", name)
		}
	}
}

func TestBuildRefusesUnknownComponents(t *testing.T) {
	if err := Build(context.Background(), io.Discard, "docker"); err == nil || !strings.Contains(err.Error(), "docker") {
		t.Errorf("build docker: %v", err)
	}
}

func TestToolEnvironment(t *testing.T) {
	t.Setenv("GOROOT", "/wrong")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOTOOLCHAIN", "local")
	t.Setenv("PATH", "/root/go/pkg/mod/golang.org/toolchain@v0.0.1-go1.99.0.linux-amd64/bin:"+os.Getenv("PATH"))
	env, program, err := toolEnvironment(filepath.Join("tools", "pause"), true)
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(program) {
		t.Errorf("go program %s", program)
	}
	for _, variable := range env {
		if strings.HasPrefix(variable, "GOROOT=") || strings.HasPrefix(variable, "GOFLAGS=") || strings.Contains(variable, "go1.99.0") || variable == "GOTOOLCHAIN=local" {
			t.Errorf("%s is passed on", variable)
		}
	}
	if !slices.Contains(env, "CGO_ENABLED=1") || !slices.Contains(env, "GOTOOLCHAIN=go1.26.8") {
		t.Errorf("environment %v", env)
	}
}
