// SPDX-License-Identifier: Apache-2.0

//go:build netns

package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

// asConfined in the environment, "<capabilities>;<directories>[;<what becomes of a system call that the profile does not allow>]", makes this test program the command
// with only those capabilities, unable to gain others, and with a root file system on which it can write to those directories only.
const asConfined = "NODEPROXY_TEST_AS_CONFINED"

// asProgram in the environment is what is executed then, instead of this test program.
const asProgram = "NODEPROXY_TEST_AS_PROGRAM"

var capabilities = map[string]uintptr{"NET_ADMIN": unix.CAP_NET_ADMIN, "SYS_ADMIN": unix.CAP_SYS_ADMIN, "NET_RAW": unix.CAP_NET_RAW}

// confine does not return. What execve gives to root is the bounding set of the thread that calls it.
func confine(how string) {
	names, writable, _ := strings.Cut(how, ";")
	writable, otherwise, profiled := strings.Cut(writable, ";")
	runtime.LockOSThread()
	must := func(what string, err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "confine:", what, err)
			os.Exit(3)
		}
	}
	must("unshare", unix.Unshare(unix.CLONE_NEWNS))
	must("private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for dir := range strings.SplitSeq(writable, ":") {
		must("bind "+dir, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	}
	must("read only", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	keep := map[uintptr]bool{}
	for name := range strings.SplitSeq(names, ",") {
		keep[capabilities[name]] = true
	}
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if !keep[c] {
			must("drop", unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0))
		}
	}
	must("no new privileges", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	if profiled {
		must("profile", restrict(profile, otherwise))
	}
	os.Unsetenv(asConfined)
	must("exec", syscall.Exec(cmp.Or(os.Getenv(asProgram), os.Args[0]), os.Args, append(os.Environ(), asProcess+"=1")))
}

// manifest is what the DaemonSet says of the proxy's rights.
func manifest(t *testing.T) (add []string, readOnly, escalation bool, seccomp string) {
	t.Helper()
	text, err := os.ReadFile("../../config/nodeproxy/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						SecurityContext struct {
							AllowPrivilegeEscalation, ReadOnlyRootFilesystem bool
							SeccompProfile                                   struct{ Type string }
							Capabilities                                     struct{ Add, Drop []string }
						}
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	s := set.Spec.Template.Spec.Containers[0].SecurityContext
	if !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("drops %q", s.Capabilities.Drop)
	}
	return s.Capabilities.Add, s.ReadOnlyRootFilesystem, s.AllowPrivilegeEscalation, s.SeccompProfile.Type
}

// TestLeastRights runs the command as the manifest has it run: with these capabilities it does all of its work, with any of them less it does not begin.
func TestLeastRights(t *testing.T) {
	add, readOnly, escalation, seccomp := manifest(t)
	if !readOnly || escalation || seccomp != "RuntimeDefault" {
		t.Errorf("read-only root %v, may gain privileges %v, seccomp %q", readOnly, escalation, seccomp)
	}
	s := newStage(t)
	how := func(capabilities []string) string {
		return asConfined + "=" + strings.Join(capabilities, ",") + ";" + s.run
	}

	for i, without := range add {
		less := slices.Delete(slices.Clone(add), i, i+1)
		p := launchAs(t, how(less), s.args)
		if err := p.cmd.Wait(); err == nil || !strings.Contains(p.String(), "CAP_SYS_ADMIN and CAP_NET_ADMIN are needed") {
			t.Errorf("without %s it ended with %v", without, err)
		}
	}

	p := launchAs(t, how(add), s.args)
	s.addPods(t)
	eventually(t, "an answer", s.call)
	eventually(t, "readiness", s.isReady("ready\n"))
	eventually(t, "a snapshot", s.snapshot)
	s.measured(t, "isthmus_unspoofed_connections_total 0", "isthmus_dns_unknown_server_total 0", "isthmus_snapshot_write_failures_total 0")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	var mask uint64
	for _, name := range add {
		mask |= 1 << capabilities[name]
	}
	if want := fmt.Sprintf("CapEff:\t%016x\n", mask); err != nil || !strings.Contains(string(status), want) {
		t.Errorf("it does not have just %q: %v\n%s", add, err, status)
	}
	if strings.Contains(p.String(), "not known whom") {
		t.Error("it cannot read the kernel's table of connections")
	}
}
