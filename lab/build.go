// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// component is a third-party program, or several from one module, that Build makes. Each is a Go module of its own
// below lab/tools, so that their dependencies do not fight, and none is part of the product's.
type component struct {
	name     string
	cgo      bool
	tags     string
	ldflags  string            // besides -s -w
	programs map[string]string // file in the cache's bin → package
	links    []string          // further names of the only program
}

const kubernetesVersion = "v1.36.3"

var components = []component{
	{
		name:     "kubernetes",
		programs: map[string]string{"kubernetes": "."},
		links:    []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"},
		// Without these, all of them report v0.0.0-master.
		ldflags: "-X k8s.io/component-base/version.gitVersion=" + kubernetesVersion +
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" +
			" -X k8s.io/component-base/version.gitTreeState=clean",
	},
	{name: "etcd", programs: map[string]string{"etcd": "go.etcd.io/etcd/server/v3"}},
	{
		name: "containerd", tags: "no_btrfs no_devmapper no_zfs no_aufs",
		programs: map[string]string{
			"containerd":              "github.com/containerd/containerd/v2/cmd/containerd",
			"containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
			"ctr":                     "github.com/containerd/containerd/v2/cmd/ctr",
		},
	},
	// Without the tag, "seccomp: config provided but seccomp not supported" fails every pod.
	{name: "runc", cgo: true, tags: "seccomp", programs: map[string]string{"runc": "github.com/opencontainers/runc"}},
	{
		name: "cni",
		programs: map[string]string{
			"ptp":        "github.com/containernetworking/plugins/plugins/main/ptp",
			"loopback":   "github.com/containernetworking/plugins/plugins/main/loopback",
			"host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
			"portmap":    "github.com/containernetworking/plugins/plugins/meta/portmap",
		},
	},
	{name: "coredns", programs: map[string]string{"coredns": "."}},
	{name: "pause", programs: map[string]string{"pause": "."}},
}

// ComponentNames are what Build can be restricted to.
func ComponentNames() []string {
	var names []string
	for _, c := range components {
		names = append(names, c.name)
	}
	return names
}

// Build makes the programs that the clusters run, below the cache's bin directory, and tells progress line by line.
// What is there already, from the same sources and compiler, is left alone. only restricts it to some components; without
// it, and as root, the Debian packages that the nodes need are installed as well.
func Build(ctx context.Context, progress io.Writer, only ...string) error {
	for _, name := range only {
		if !slices.Contains(ComponentNames(), name) {
			return fmt.Errorf("no component %q, only %v", name, ComponentNames())
		}
	}
	cache, err := cacheDirectory()
	if err != nil {
		return err
	}
	bin := filepath.Join(cache, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	root, err := repositoryRoot()
	if err != nil {
		return err
	}
	release, err := lockFile(ctx, filepath.Join(bin, ".lock"), func() { fmt.Fprintln(progress, "wait for another build") })
	if err != nil {
		return err
	}
	defer release()
	prepared := false
	for _, c := range components {
		if len(only) > 0 && !slices.Contains(only, c.name) {
			continue
		}
		source := filepath.Join(root, "lab", "tools", c.name)
		key, err := c.key(source)
		if err != nil {
			return fmt.Errorf("component %s: %w", c.name, err)
		}
		if c.built(bin, key) {
			continue
		}
		if !prepared {
			if err := requirePackages(ctx, progress, buildPackages); err != nil {
				return err
			}
			prepared = true
		}
		began := time.Now()
		fmt.Fprintf(progress, "build %s …\n", c.name)
		if err := c.build(ctx, source, bin, key); err != nil {
			return fmt.Errorf("component %s: %w", c.name, err)
		}
		fmt.Fprintf(progress, "build %s: %.1f s\n", c.name, time.Since(began).Seconds())
	}
	// What the nodes need is installed here too, so that tests find it before any lab was up. Who is not root cannot bring
	// one up anyway.
	if len(only) == 0 && os.Geteuid() == 0 {
		return requirePackages(ctx, progress, runPackages)
	}
	return nil
}

// key says what the programs are made from: the module's files, the compiler, how it is called, and for what machine.
func (c component) key(source string) (string, error) {
	toolchain, err := moduleToolchain(source)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %s %s %#v\n", toolchain, runtime.GOOS, runtime.GOARCH, c)
	entries, err := os.ReadDir(source)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(source, entry.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %x\n", entry.Name(), sha256.Sum256(data))
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func (c component) keyFile(bin string) string { return filepath.Join(bin, "."+c.name+".key") }

func (c component) built(bin, key string) bool {
	have, err := os.ReadFile(c.keyFile(bin))
	if err != nil || string(have) != key+"\n" {
		return false
	}
	for _, name := range c.files() {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return false
		}
	}
	return true
}

func (c component) files() []string {
	var names []string
	for name := range c.programs {
		names = append(names, name)
	}
	slices.Sort(names)
	return append(names, c.links...)
}

// build builds all programs of the component; running labs keep the files that they have open.
func (c component) build(ctx context.Context, source, bin, key string) error {
	if err := os.Remove(c.keyFile(bin)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	env, goProgram, err := toolEnvironment(source, c.cgo)
	if err != nil {
		return err
	}
	for name, pkg := range c.programs {
		target := filepath.Join(bin, name)
		temp := filepath.Join(bin, "."+name+".new")
		arguments := []string{"build", "-trimpath", "-buildvcs=false", "-o", temp, "-ldflags", strings.TrimSpace("-s -w " + c.ldflags)}
		if c.tags != "" {
			arguments = append(arguments, "-tags", c.tags)
		}
		cmd := exec.CommandContext(ctx, goProgram, append(arguments, pkg)...)
		cmd.Dir, cmd.Env = source, env
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Run(); err != nil {
			os.Remove(temp)
			return fmt.Errorf("go build %s: %w\n%s", pkg, err, bytes.TrimSpace(output.Bytes()))
		}
		if err := os.Rename(temp, target); err != nil {
			return err
		}
		for _, link := range c.links {
			temp := filepath.Join(bin, "."+link+".new")
			os.Remove(temp)
			if err := os.Symlink(name, temp); err != nil {
				return err
			}
			if err := os.Rename(temp, filepath.Join(bin, link)); err != nil {
				return err
			}
		}
	}
	return writeFile(c.keyFile(bin), []byte(key+"\n"), 0o644)
}

// moduleToolchain is the Go release that a tool module names: its toolchain line, or else its go line.
func moduleToolchain(source string) (string, error) {
	data, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	toolchain := ""
	for line := range strings.Lines(string(data)) {
		switch fields := strings.Fields(line); {
		case len(fields) == 2 && fields[0] == "toolchain":
			return fields[1], nil
		case len(fields) == 2 && fields[0] == "go":
			toolchain = "go" + fields[1]
		}
	}
	if toolchain == "" {
		return "", fmt.Errorf("%s names no Go version", filepath.Join(source, "go.mod"))
	}
	return toolchain, nil
}

// toolEnvironment makes the build independent of how the caller was built: `go run` puts its own release of Go first
// in PATH and into GOROOT, but the tools are built by the release that their module names.
func toolEnvironment(source string, cgo bool) (env []string, goProgram string, err error) {
	toolchain, err := moduleToolchain(source)
	if err != nil {
		return nil, "", err
	}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case name == "GOROOT" || name == "GOFLAGS" || name == "GOWORK" || name == "GOTOOLCHAIN" || name == "CGO_ENABLED" ||
			name == "GOOS" || name == "GOARCH" || strings.HasPrefix(name, "GOTOOLCHAIN_INTERNAL"):
			continue
		case name == "PATH":
			directories := slices.DeleteFunc(filepath.SplitList(value), func(directory string) bool {
				return strings.Contains(directory, "/golang.org/toolchain@")
			})
			for _, directory := range directories {
				candidate := filepath.Join(directory, "go")
				if info, err := os.Stat(candidate); err == nil && goProgram == "" && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
					goProgram = candidate
				}
			}
			variable = "PATH=" + strings.Join(directories, string(filepath.ListSeparator))
		}
		env = append(env, variable)
	}
	if goProgram == "" {
		return nil, "", errors.New("no go program in PATH")
	}
	enabled := "CGO_ENABLED=0"
	if cgo {
		enabled = "CGO_ENABLED=1"
	}
	return append(env, "GOWORK=off", "GOTOOLCHAIN="+toolchain, enabled), goProgram, nil
}
