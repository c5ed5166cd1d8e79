// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Shape is what a lab consists of.
type Shape struct {
	Clusters int           `json:"clusters"`
	Nodes    int           `json:"nodes"` // per cluster
	WAN      WAN           `json:"wan"`
	Delay    time.Duration `json:"delay"`  // one way, emulated WAN only
	Jitter   time.Duration `json:"jitter"` // added at random to Delay, emulated WAN only
	Loss     float64       `json:"loss"`   // share of packets lost, 0 to 1, emulated WAN only
}

// DefaultShape is two clusters of one node each, joined by a WAN in the kernel.
func DefaultShape() Shape { return Shape{Clusters: 2, Nodes: 1, WAN: WANKernel} }

// Check says what is wrong with a shape.
func (s Shape) Check() error {
	switch {
	case s.Clusters < 1 || s.Clusters > MaxClusters:
		return fmt.Errorf("%d clusters: want 1 to %d", s.Clusters, MaxClusters)
	case s.Nodes < 1 || s.Nodes > MaxNodes:
		return fmt.Errorf("%d nodes: want 1 to %d", s.Nodes, MaxNodes)
	case s.WAN != WANKernel && s.WAN != WANEmulated:
		return fmt.Errorf("wan %q: want %s or %s", s.WAN, WANKernel, WANEmulated)
	case s.Delay < 0 || s.Delay > 10*time.Second:
		return fmt.Errorf("delay %s: want 0 to 10s", s.Delay)
	case s.Jitter < 0 || s.Jitter > 10*time.Second:
		return fmt.Errorf("jitter %s: want 0 to 10s", s.Jitter)
	case !(s.Loss >= 0 && s.Loss < 1):
		return fmt.Errorf("loss %v: want 0 to less than 1", s.Loss)
	case s.WAN == WANKernel && (s.Delay != 0 || s.Jitter != 0 || s.Loss != 0):
		return errors.New("delay, jitter and loss need the emulated WAN")
	}
	return nil
}

func (s Shape) String() string {
	text := fmt.Sprintf("%d clusters × %d nodes, %s WAN", s.Clusters, s.Nodes, s.WAN)
	if s.WAN == WANEmulated {
		text += fmt.Sprintf(" (delay %s, jitter %s, loss %g)", s.Delay, s.Jitter, s.Loss)
	}
	return text
}

// record is what Up leaves on disk: enough for every other command.
type record struct {
	Name     string         `json:"name"`
	Shape    Shape          `json:"shape"`
	Started  time.Time      `json:"started"`
	Complete bool           `json:"complete"` // false while Up is at work, or after it was killed
	Ports    map[string]int `json:"ports"`    // cluster → port of the forwarder on 127.0.0.1
}

// cacheDirectory is where built binaries and the state of labs live: $ISTHMUS_CACHE, or .cache in the repository.
func cacheDirectory() (string, error) {
	if dir := os.Getenv("ISTHMUS_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := repositoryRoot()
	if err != nil {
		return "", fmt.Errorf("%w; or set ISTHMUS_CACHE to the cache's directory", err)
	}
	return filepath.Join(root, ".cache"), nil
}

// repositoryRoot looks upwards from the working directory for the lab's tool modules.
func repositoryRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "lab", "tools", "kubernetes", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside the Isthmus repository (no lab/tools above it)", start)
		}
	}
}

// places are the directories of one lab.
type places struct {
	name  string
	cache string
}

func placesOf(name string) (places, error) {
	if err := CheckName(name); err != nil {
		return places{}, err
	}
	cache, err := cacheDirectory()
	if err != nil {
		return places{}, err
	}
	return places{name: name, cache: cache}, nil
}

func (p places) bin() string          { return filepath.Join(p.cache, "bin") }
func (p places) labs() string         { return filepath.Join(p.cache, "lab") }
func (p places) state() string        { return filepath.Join(p.labs(), p.name) }
func (p places) lockFile() string     { return filepath.Join(p.labs(), "."+p.name+".lock") }
func (p places) trialPattern() string { return filepath.Join(p.labs(), ".try-"+p.name+"-*") }
func (p places) processes() string    { return filepath.Join(p.state(), "processes") }
func (p places) program() string      { return filepath.Join(p.state(), "lab") }
func (p places) box(elems ...string) string {
	return filepath.Join(append([]string{p.state()}, elems...)...)
}
func (p places) images() string { return filepath.Join(p.state(), "images") }
func (p places) netns(box string) string {
	return filepath.Join(netnsDirectory, netnsName(p.name, box))
}
func (p places) tool(name string) string         { return filepath.Join(p.bin(), name) }
func (p places) cgroup(node string) string       { return cgroupParent + "/" + p.name + "/" + node }
func (p places) pki(cluster, file string) string { return p.box(cluster, "pki", file) }

func (p places) readRecord() (record, error) {
	var r record
	data, err := os.ReadFile(p.box("lab.json"))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("%s: %w", p.box("lab.json"), err)
	}
	return r, nil
}

func (p places) writeRecord(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(p.box("lab.json"), append(data, '\n'), 0o644)
}

// writeFile replaces a file whole: a reader, or a next run after a crash, never sees half of it.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(temp.Name(), path)
}

// checkStateDirectory says whether nodes can keep their disks below dir, which exists: overlay mounts need a real
// file system below, and nodes lay their own /etc, /opt, /var and /run over the host's.
func checkStateDirectory(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for _, hidden := range []string{"/etc", "/opt", "/var", "/run", "/proc", "/sys", "/dev"} {
		if real == hidden || strings.HasPrefix(real, hidden+"/") {
			return fmt.Errorf("state directory %s lies below %s, which every node replaces by its own: set ISTHMUS_CACHE to another place", real, hidden)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(real, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", real, err)
	}
	switch fs.Type {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return fmt.Errorf("state directory %s is on overlayfs, which cannot carry another overlay: set ISTHMUS_CACHE to a directory on ext4, xfs or btrfs", real)
	case unix.TMPFS_MAGIC:
		return fmt.Errorf("state directory %s is on tmpfs, where images and etcd would fill the memory: set ISTHMUS_CACHE to a directory on ext4, xfs or btrfs", real)
	}
	return nil
}
