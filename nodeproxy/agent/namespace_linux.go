// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// openNamespace opens a network namespace by its path on the node. The path may be seen here at the same place (a hostPath mount), at
// its place without the symbolic link /var/run, or through the node's first process.
func openNamespace(proc, path string) (*os.File, error) {
	candidates := []string{path}
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok {
		candidates = append(candidates, "/run/"+rest)
	}
	var errs []error
	for _, c := range candidates {
		f, err := os.Open(c)
		if err == nil {
			err = checkNamespace(f)
		}
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	f, err := openInRoot(filepath.Join(proc, "1", "root"), path)
	if err == nil {
		return f, nil
	}
	return nil, fmt.Errorf("open network namespace: %w", errors.Join(append(errs, err)...))
}

// openInRoot resolves a path as a process with that root would, with its symbolic links.
func openInRoot(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	defer func() { _ = unix.Close(dir) }() // it was only looked through
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", path, root, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := checkNamespace(f); err != nil {
		return nil, err
	}
	return f, nil
}

// checkNamespace closes a file that is not a namespace: where a mount does not reach us, an empty file is in its place.
func checkNamespace(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if st.Type != unix.NSFS_MAGIC {
		f.Close()
		return fmt.Errorf("%s is not a namespace", f.Name())
	}
	return nil
}

// processes is which processes belong to which pod, by the pod's uid in the names of their cgroups.
type processes struct {
	proc string
	pods map[string][]int
}

// podCgroup finds the pod's uid in a cgroup's path: "pod<uid>" of the cgroupfs driver, or the systemd driver's "-pod<uid>.slice" with
// underscores for dashes. Static pods have a hash without dashes.
var podCgroup = regexp.MustCompile(`pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?:/|\n|$)`)

// podOf gives the pod's uid in what /proc/<pid>/cgroup says, or "".
func podOf(cgroups string) string {
	m := podCgroup.FindStringSubmatch(cgroups)
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "_", "-")
}

// scanProcesses reads the node's process table. Processes that end meanwhile are left out.
func scanProcesses(proc string) (processes, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return processes{}, err
	}
	p := processes{proc, map[string][]int{}}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(proc, e.Name(), "cgroup"))
		if err != nil {
			continue
		}
		if uid := podOf(string(b)); uid != "" {
			p.pods[uid] = append(p.pods[uid], pid)
		}
	}
	return p, nil
}

// errNoNamespace says that no process of the pod has a network namespace with the pod's address, or with rules of ours if that is not known.
var errNoNamespace = errors.New("no process of the pod is in its network")

// namespace opens the network namespace of a running pod. A namespace counts only if it holds one of the pod's addresses: cgroup names
// can be left over, process ids are used again, and some containers make namespaces of their own.
func (p processes) namespace(uid string, addrs []netip.Addr) (*os.File, error) {
	return p.find(uid, func(f *os.File) (bool, error) { return redirect.Holds(f, addrs) })
}

// captured opens the network namespace of a pod whose addresses are not known yet. It counts only if its traffic is captured: no other pod's is that a process of this one is in.
func (p processes) captured(uid string) (*os.File, error) { return p.find(uid, redirect.Captured) }

func (p processes) find(uid string, fits func(*os.File) (bool, error)) (*os.File, error) {
	var errs []error
	for _, pid := range p.pods[uid] {
		f, err := os.Open(filepath.Join(p.proc, strconv.Itoa(pid), "ns", "net"))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fit, err := fits(f)
		if fit {
			return f, nil
		}
		f.Close()
		if err != nil {
			errs = append(errs, err)
		}
	}
	err := fmt.Errorf("%w (it has %d)", errNoNamespace, len(p.pods[uid]))
	return nil, errors.Join(append([]error{err}, errs...)...)
}

// kubeletUID gives the user that the node's kubelet runs as: root, unless a process of that name says otherwise.
func kubeletUID(proc string) uint32 {
	var st unix.Stat_t
	if dir, ok := processNamed(proc, "kubelet", "kubelite"); ok && unix.Stat(dir, &st) == nil {
		return st.Uid
	}
	return 0
}

// processNamed gives a process's directory in the process table; the process has one of these names.
func processNamed(proc string, names ...string) (dir string, ok bool) {
	comms, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm"))
	if err != nil {
		return "", false
	}
	for _, comm := range comms {
		if b, err := os.ReadFile(comm); err == nil && slices.Contains(names, strings.TrimSpace(string(b))) {
			return filepath.Dir(comm), true
		}
	}
	return "", false
}
