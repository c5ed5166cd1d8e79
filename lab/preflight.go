// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Memory that a start must find, in MiB: a cluster of one node was seen to take 430 to 500, the start itself and what
// is put into the clusters the rest.
const (
	memoryBase       = 768
	memoryPerCluster = 640
	memoryPerNode    = 80 // each node beyond a cluster's first
)

// ErrNotRoot is returned when the lab is asked for something only root may do.
var ErrNotRoot = errors.New("the lab needs root: it makes namespaces, mounts and cgroups")

// RequireRoot returns ErrNotRoot unless the caller is root.
func RequireRoot() error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	return nil
}

func memoryNeeded(s Shape) int {
	return memoryBase + s.Clusters*(memoryPerCluster+(s.Nodes-1)*memoryPerNode)
}

// availableMemory reads MemAvailable of /proc/meminfo, in MiB.
func availableMemory(r io.Reader) (int, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			fields := strings.Fields(rest)
			if len(fields) == 2 && fields[1] == "kB" {
				kib, err := strconv.Atoi(fields[0])
				return kib / 1024, err
			}
		}
	}
	return 0, errors.Join(errors.New("no MemAvailable in /proc/meminfo"), lines.Err())
}

// preflight says what this machine lacks for a lab, before anything is made.
func (p places) preflight(ctx context.Context, progress io.Writer, shape Shape) error {
	meminfo, err := os.Open("/proc/meminfo")
	if err != nil {
		return err
	}
	defer meminfo.Close()
	available, err := availableMemory(meminfo)
	if err != nil {
		return err
	}
	if needed := memoryNeeded(shape); available < needed {
		return fmt.Errorf("%s need about %d MiB of memory, and %d MiB are available", shape, needed, available)
	}
	if err := os.MkdirAll(p.labs(), 0o755); err != nil {
		return err
	}
	if err := checkStateDirectory(p.labs()); err != nil {
		return err
	}
	if err := requirePackages(ctx, progress, runPackages); err != nil {
		return err
	}
	if err := p.tryKernel(shape); err != nil {
		return fmt.Errorf("this kernel, or what the lab may do with it, is not enough: %w", err)
	}
	return nil
}

// tryKernel tries what the lab is made of, in namespaces that end with the trial.
func (p places) tryKernel(shape Shape) error {
	disk, err := os.MkdirTemp(filepath.Split(p.trialPattern()))
	if err != nil {
		return err
	}
	defer os.RemoveAll(disk)
	_, err = onOwnThread(func() (struct{}, error) {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
			return struct{}{}, fmt.Errorf("new mount and network namespaces: %w", err)
		}
		return struct{}{}, errors.Join(tryOverlay(disk), tryLinks(), tryForwarding())
	})
	if err != nil {
		return err
	}
	if shape.WAN == WANEmulated {
		if _, err := os.Stat("/dev/net/tun"); err != nil {
			return fmt.Errorf("the emulated WAN needs TUN devices: %w", err)
		}
	}
	if v2, err := unified(); err != nil || v2 {
		return err
	}
	for _, controller := range controllers {
		if _, err := os.Stat(filepath.Join(cgroupRoot, controller)); err != nil {
			return fmt.Errorf("cgroup v1 controller %s: %w", controller, err)
		}
	}
	return nil
}

func tryOverlay(disk string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, directory := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(disk, directory), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", disk)
	merged := filepath.Join(disk, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay file system on %s: %w", disk, err)
	}
	return unix.Unmount(merged, unix.MNT_DETACH)
}

func tryLinks() error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer handle.Close()
	name := func(s string) netlink.LinkAttrs {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = s
		return attributes
	}
	for _, link := range []netlink.Link{
		&netlink.Veth{LinkAttrs: name("try0"), PeerName: "try1"},
		&netlink.Bridge{LinkAttrs: name("try2")},
	} {
		if err := handle.LinkAdd(link); err != nil {
			return fmt.Errorf("network device of type %s: %w", link.Type(), err)
		}
	}
	return nil
}

func tryForwarding() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("forward packets in a network namespace: %w", err)
	}
	return nil
}
