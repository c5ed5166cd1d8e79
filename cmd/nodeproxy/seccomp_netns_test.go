// SPDX-License-Identifier: Apache-2.0

//go:build netns && amd64

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// profile is the list of system calls that ships with the node proxy, in the form that container runtimes read.
const profile = "../../config/nodeproxy/seccomp/nodeproxy.json"

// numbers are those of the profile's names here.
var numbers = map[string]uint32{
	"accept4": unix.SYS_ACCEPT4, "arch_prctl": unix.SYS_ARCH_PRCTL, "bind": unix.SYS_BIND, "brk": unix.SYS_BRK, "clock_gettime": unix.SYS_CLOCK_GETTIME,
	"clock_nanosleep": unix.SYS_CLOCK_NANOSLEEP, "clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3, "close": unix.SYS_CLOSE,
	"connect": unix.SYS_CONNECT, "dup3": unix.SYS_DUP3, "epoll_create1": unix.SYS_EPOLL_CREATE1, "epoll_ctl": unix.SYS_EPOLL_CTL,
	"epoll_pwait": unix.SYS_EPOLL_PWAIT, "eventfd2": unix.SYS_EVENTFD2, "execve": unix.SYS_EXECVE, "exit": unix.SYS_EXIT,
	"exit_group": unix.SYS_EXIT_GROUP, "faccessat": unix.SYS_FACCESSAT, "faccessat2": unix.SYS_FACCESSAT2, "fchdir": unix.SYS_FCHDIR,
	"fchmod": unix.SYS_FCHMOD, "fchmodat": unix.SYS_FCHMODAT, "fcntl": unix.SYS_FCNTL, "fdatasync": unix.SYS_FDATASYNC, "fstat": unix.SYS_FSTAT,
	"fstatfs": unix.SYS_FSTATFS, "fsync": unix.SYS_FSYNC, "ftruncate": unix.SYS_FTRUNCATE, "futex": unix.SYS_FUTEX, "getcwd": unix.SYS_GETCWD,
	"getdents64": unix.SYS_GETDENTS64, "geteuid": unix.SYS_GETEUID, "getgid": unix.SYS_GETGID, "getpeername": unix.SYS_GETPEERNAME,
	"getpid": unix.SYS_GETPID, "getppid": unix.SYS_GETPPID, "getrandom": unix.SYS_GETRANDOM, "getsockname": unix.SYS_GETSOCKNAME,
	"getsockopt": unix.SYS_GETSOCKOPT, "gettid": unix.SYS_GETTID, "getuid": unix.SYS_GETUID, "kill": unix.SYS_KILL, "listen": unix.SYS_LISTEN,
	"lseek": unix.SYS_LSEEK, "madvise": unix.SYS_MADVISE, "mincore": unix.SYS_MINCORE, "mkdirat": unix.SYS_MKDIRAT, "mmap": unix.SYS_MMAP,
	"mprotect": unix.SYS_MPROTECT, "mremap": unix.SYS_MREMAP, "munmap": unix.SYS_MUNMAP, "nanosleep": unix.SYS_NANOSLEEP,
	"newfstatat": unix.SYS_NEWFSTATAT, "openat": unix.SYS_OPENAT, "pidfd_open": unix.SYS_PIDFD_OPEN, "pidfd_send_signal": unix.SYS_PIDFD_SEND_SIGNAL,
	"pipe2": unix.SYS_PIPE2, "prctl": unix.SYS_PRCTL, "pread64": unix.SYS_PREAD64, "prlimit64": unix.SYS_PRLIMIT64, "pwrite64": unix.SYS_PWRITE64,
	"read": unix.SYS_READ, "readlinkat": unix.SYS_READLINKAT, "readv": unix.SYS_READV, "recvfrom": unix.SYS_RECVFROM, "recvmsg": unix.SYS_RECVMSG,
	"renameat": unix.SYS_RENAMEAT, "renameat2": unix.SYS_RENAMEAT2, "restart_syscall": unix.SYS_RESTART_SYSCALL, "rseq": unix.SYS_RSEQ,
	"rt_sigaction": unix.SYS_RT_SIGACTION, "rt_sigprocmask": unix.SYS_RT_SIGPROCMASK, "rt_sigreturn": unix.SYS_RT_SIGRETURN,
	"sched_getaffinity": unix.SYS_SCHED_GETAFFINITY, "sched_yield": unix.SYS_SCHED_YIELD, "sendmsg": unix.SYS_SENDMSG, "sendto": unix.SYS_SENDTO,
	"set_robust_list": unix.SYS_SET_ROBUST_LIST, "set_tid_address": unix.SYS_SET_TID_ADDRESS, "setitimer": unix.SYS_SETITIMER, "setns": unix.SYS_SETNS,
	"setsockopt": unix.SYS_SETSOCKOPT, "shutdown": unix.SYS_SHUTDOWN, "sigaltstack": unix.SYS_SIGALTSTACK, "socket": unix.SYS_SOCKET,
	"splice": unix.SYS_SPLICE, "statfs": unix.SYS_STATFS, "tgkill": unix.SYS_TGKILL, "timer_create": unix.SYS_TIMER_CREATE,
	"timer_delete": unix.SYS_TIMER_DELETE, "timer_settime": unix.SYS_TIMER_SETTIME, "uname": unix.SYS_UNAME, "unlinkat": unix.SYS_UNLINKAT,
	"utimensat": unix.SYS_UTIMENSAT, "wait4": unix.SYS_WAIT4, "waitid": unix.SYS_WAITID, "write": unix.SYS_WRITE, "writev": unix.SYS_WRITEV,
}

// allowed reads the profile, as a container runtime does.
func allowed(path string) ([]uint32, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p struct {
		DefaultAction   string
		DefaultErrnoRet int
		Syscalls        []struct {
			Action string
			Names  []string
		}
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	if p.DefaultAction != "SCMP_ACT_ERRNO" || p.DefaultErrnoRet != int(unix.EPERM) || len(p.Syscalls) != 1 || p.Syscalls[0].Action != "SCMP_ACT_ALLOW" {
		return nil, errors.New("the profile is of another form than this test reads")
	}
	var out []uint32
	for _, name := range p.Syscalls[0].Names {
		n, ok := numbers[name]
		if !ok {
			return nil, fmt.Errorf("%s is no system call that this test knows", name)
		}
		out = append(out, n)
	}
	return out, nil
}

// What becomes of a call that the profile does not allow (linux/seccomp.h): the profile's own answer, and one that ends the process and names the call.
const (
	asProfiled = "errno"
	asTrap     = "trap"
)

// restrict puts the calling thread, and what it executes, under the profile.
func restrict(path, how string) error {
	calls, err := allowed(path)
	if err != nil {
		return err
	}
	const (
		retAllow, retTrap, retErrno = 0x7fff0000, 0x00030000, 0x00050000
		archX8664, firstX32         = 0xc000003e, 0x40000000
		atNumber, atArch            = 0, 4 // in struct seccomp_data
	)
	otherwise := retErrno | uint32(unix.EPERM)
	if how == asTrap {
		otherwise = retTrap
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	ret := func(v uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v} }
	program := []unix.SockFilter{
		load(atArch), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: archX8664, Jt: 1}, ret(otherwise),
		load(atNumber), {Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: firstX32, Jf: 1}, ret(otherwise),
	}
	for _, n := range calls {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: n, Jf: 1}, ret(retAllow))
	}
	program = append(program, ret(otherwise))
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
}

// asForbidden in the environment makes this test program try what the proxy never does, under the profile if it is its path.
const asForbidden = "NODEPROXY_TEST_AS_FORBIDDEN"

// forbidden are calls that a process with the proxy's capabilities could do harm with, with arguments that come to nothing.
var forbidden = map[string][4]uintptr{
	"mount": {unix.SYS_MOUNT}, "unshare": {unix.SYS_UNSHARE, unix.CLONE_NEWUSER | unix.CLONE_THREAD}, "bpf": {unix.SYS_BPF, 1 << 20}, "ptrace": {unix.SYS_PTRACE, 1 << 20},
	"perf_event_open": {unix.SYS_PERF_EVENT_OPEN}, "pivot_root": {unix.SYS_PIVOT_ROOT}, "init_module": {unix.SYS_INIT_MODULE}, "kexec_load": {unix.SYS_KEXEC_LOAD, 0, 1 << 10, 0},
	"keyctl": {unix.SYS_KEYCTL, 1 << 20}, "io_uring_setup": {unix.SYS_IO_URING_SETUP, 1}, "userfaultfd": {unix.SYS_USERFAULTFD, 1 << 20}, "open_by_handle_at": {unix.SYS_OPEN_BY_HANDLE_AT},
	"process_vm_readv": {unix.SYS_PROCESS_VM_READV, 1 << 22}, "sethostname": {unix.SYS_SETHOSTNAME, 0, 1 << 20}, "chroot": {unix.SYS_CHROOT}, "memfd_create": {unix.SYS_MEMFD_CREATE, 0},
}

// tryForbidden writes a line for each, and does not return.
func tryForbidden(path string) {
	runtime.LockOSThread() // a profile is a thread's
	if path != "none" {
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = restrict(path, asProfiled)
		}
		if err != nil {
			fmt.Println("restrict:", err)
			os.Exit(3)
		}
	}
	for name, c := range forbidden {
		_, _, errno := unix.Syscall(c[0], c[1], c[2], c[3])
		fmt.Println(name, errno == unix.EPERM)
	}
	os.Exit(0)
}

// TestProfileForbids shows that what is not in the profile fails under it, and for no other reason.
func TestProfileForbids(t *testing.T) {
	run := func(path string) map[string]bool {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asForbidden+"="+path)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		refused := map[string]bool{}
		for line := range strings.Lines(string(out)) {
			name, is, _ := strings.Cut(strings.TrimSpace(line), " ")
			refused[name] = is == "true"
		}
		return refused
	}
	with, without := run(profile), run("none")
	for name := range forbidden {
		if is, told := with[name]; !told || !is {
			t.Errorf("%s is not refused", name)
		}
	}
	otherwise := 0
	for _, is := range without {
		if !is {
			otherwise++
		}
	}
	if otherwise < len(forbidden)/2 {
		t.Errorf("without the profile, %d of %d are refused anyway: %v", len(forbidden)-otherwise, len(forbidden), without)
	}
}

// child is the process below a supervisor.
func child(supervisor int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", supervisor, supervisor))
	if err != nil {
		return 0, err
	}
	var pid int
	for _, task := range threads(supervisor) {
		if of, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", supervisor, task)); err == nil {
			text = append(text, of...)
		}
	}
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		return 0, fmt.Errorf("no child: %w", err)
	}
	return pid, nil
}

func threads(pid int) (out []string) {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestUnderItsProfile runs the supervised command through a life under the profile, with an end for whatever makes a call that is not in it: work, a crash, work again,
// an upgrade, and the end. The command is the one that ships: a race detector makes calls of its own.
func TestUnderItsProfile(t *testing.T) {
	add, _, _, _ := manifest(t)
	program, err := rig.Build(t.Context(), t.TempDir(), "nodeproxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, program)
	s := newStage(t)
	confined := asConfined + "=" + strings.Join(add, ",") + ";" + s.run + ";" + asTrap
	p := launchAs(t, confined, append([]string{"supervise"}, s.args...))
	s.addPods(t)
	eventually(t, "an answer", s.call)
	eventually(t, "readiness", s.isReady("ready\n"))
	eventually(t, "a snapshot", s.snapshot)
	s.measured(t, "isthmus_unspoofed_connections_total 0", "isthmus_snapshot_write_failures_total 0", "isthmus_restarts 0")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), "Seccomp:\t2\n") {
		t.Errorf("it is under no filter: %v\n%s", err, status)
	}
	for _, arg := range s.args {
		if admin, ok := strings.CutPrefix(arg, "--admin-address="); ok {
			if err := get("http://"+admin+"/debug/pprof/profile?seconds=1", ""); err != nil {
				t.Errorf("a profile: %v", err)
			}
		}
	}
	first, err := child(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next process", func() error { return get("http://"+s.metrics+"/metrics", "isthmus_restarts 1") })
	eventually(t, "an answer after the crash", s.call)
	next := s.join(t, confined, "supervise")
	eventually(t, "readiness of the one after it", next.isReady)
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if err := s.call(); err != nil {
		t.Errorf("the one after it: %v", err)
	}
	if text := next.String(); strings.Contains(text, "others are opened beside them") {
		t.Errorf("it did not get the listeners:\n%s", text)
	}
	next.end(t)
	if log := p.String() + next.String(); strings.Contains(log, "SIGSYS") || strings.Contains(log, "operation not permitted") {
		t.Errorf("a system call was refused:\n%s", log)
	}
}
