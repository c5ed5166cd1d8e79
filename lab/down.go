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

// downLimit is how long a teardown may take; 2 to 3 s were seen.
const downLimit = 30 * time.Second

// Down removes a lab and all that belongs to it, complete or not, whoever left it behind. Removing one that
// does not exist is no error.
func Down(ctx context.Context, name string) error {
	if err := RequireRoot(); err != nil {
		return err
	}
	p, err := placesOf(name)
	if err != nil {
		return err
	}
	release, err := p.lock(ctx, nil)
	if err != nil {
		return err
	}
	defer release()
	return p.down(ctx)
}

// down is Down for who holds the lock. Each step goes on after errors: what can go, goes.
func (p places) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, downLimit, errors.New("teardown took too long"))
	defer cancel()
	var errs []error
	// A program that is killed may just have started another one, so look again until there is none.
	errs = append(errs, poll(ctx, 5*time.Millisecond, func() error {
		targets, err := p.living()
		if err != nil {
			return err
		}
		if len(targets) == 0 {
			return nil
		}
		if err := killAll(ctx, targets); err != nil {
			return err
		}
		return errors.New("processes were there a moment ago")
	}))
	paths, err := labNetns(p.name)
	errs = append(errs, err)
	for _, path := range paths {
		errs = append(errs, deleteNetns(path))
	}
	cgroup := cgroupParent + "/" + p.name
	errs = append(errs, removeCgroup(ctx, cgroup))
	for _, parent := range cgroupDirectories(cgroupParent) {
		_ = unix.Rmdir(parent) // another lab may still use it
	}
	errs = append(errs, p.unmount(), os.RemoveAll(p.state()))
	trials, err := filepath.Glob(p.trialPattern())
	errs = append(errs, err)
	for _, trial := range trials { // of an up that was killed while it tried the kernel
		errs = append(errs, os.RemoveAll(trial))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove lab %s: %w", p.name, err)
	}
	return nil
}

// living are the lab's processes, recorded or not.
func (p places) living() ([]process, error) {
	found, err := p.scan()
	if err != nil {
		return nil, err
	}
	recorded, err := p.recorded()
	if err != nil {
		return nil, err
	}
	for _, one := range recorded {
		if one.alive() && !slices.Contains(found, one) {
			found = append(found, one)
		}
	}
	return found, nil
}

// unmount detaches mounts below the state directory. Nodes keep theirs to themselves, so there are none unless
// someone else made one, and then removing the directory would fail.
func (p places) unmount() error {
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for _, target := range slices.Backward(mountsBelow(string(data), p.state())) {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", target, err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow reads mount points out of mountinfo (proc(5)), in which spaces and the like are written as \040.
func mountsBelow(mountinfo, directory string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if target := unescape.Replace(fields[4]); strings.HasPrefix(target, directory+"/") {
			found = append(found, target)
		}
	}
	return found
}

// Names lists the labs of which anything is left on this machine: state, network namespaces or cgroups.
func Names() ([]string, error) {
	cache, err := cacheDirectory()
	if err != nil {
		return nil, err
	}
	var names []string
	add := func(name string) {
		if CheckName(name) == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	entries, err := os.ReadDir(filepath.Join(cache, "lab"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			add(entry.Name())
		}
	}
	paths, err := labNetns("")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), netnsPrefix), "-")
		add(owner)
	}
	for _, parent := range cgroupDirectories(cgroupParent) {
		entries, err := os.ReadDir(parent)
		if err != nil {
			continue // gone since
		}
		for _, entry := range entries {
			if entry.IsDir() {
				add(entry.Name())
			}
		}
	}
	slices.Sort(names)
	return names, nil
}
