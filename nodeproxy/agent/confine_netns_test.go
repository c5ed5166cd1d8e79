// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// envCapabilities names the capabilities that the test's process is to have, as Kubernetes writes them; envConfined says that it is done.
const (
	envCapabilities = "ISTHMUS_TEST_CAPABILITIES"
	envConfined     = "ISTHMUS_TEST_CONFINED"
)

// capabilities that some test asks for, or takes away. The numbers are those of linux/capability.h.
var capabilityNumbers = map[string]int{
	"DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW,
	"SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_PTRACE": unix.CAP_SYS_PTRACE,
}

// confine runs the process again as the container runtime would run the agent's container, if it is asked to: with the capabilities
// named, on a root file system that is read-only but for /tmp, with a /proc/sys that is, too, and without the system calls that no default profile allows.
func confine() error {
	if os.Getenv(envCapabilities) == "" || os.Getenv(envConfined) != "" {
		return nil
	}
	runtime.LockOSThread() // everything below is the thread's, and what it executes inherits it
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"", "/", "", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY},
		{"tmpfs", "/tmp", "tmpfs", 0},
		{"/proc/sys", "/proc/sys", "", unix.MS_BIND},
		{"", "/proc/sys", "", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	var keep []int
	for name := range strings.SplitSeq(os.Getenv(envCapabilities), ",") {
		number, ok := capabilityNumbers[name]
		if !ok {
			return fmt.Errorf("unknown capability %s", name)
		}
		keep = append(keep, number)
	}
	for number := 0; ; number++ {
		if slices.Contains(keep, number) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // beyond the last one
		} else if err != nil {
			return fmt.Errorf("drop capability %d: %w", number, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := filterCalls(); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), envConfined+"=1", "TMPDIR=/tmp"))
}

// deniedCalls are system calls that runtimes' default profiles refuse to a container with the agent's capabilities. Not all of them: those
// that a Go program, or a library of it, might try.
var deniedCalls = []uint32{
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_USERFAULTFD, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_ACCT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_FANOTIFY_MARK,
}

// filterCalls makes the denied system calls fail with EPERM, as the runtimes' profiles do.
func filterCalls() error {
	const number = 0 // offset of the system call's number in struct seccomp_data
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number}}
	for i, call := range deniedCalls {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jt: uint8(len(deniedCalls) - i)})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	whole := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&whole)), 0, 0); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	return nil
}
