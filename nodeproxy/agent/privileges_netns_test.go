// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// envForeign is the id of a process that belongs to a pod and to another user than the agent's.
const envForeign = "ISTHMUS_TEST_FOREIGN_PROCESS"

// envLacks says that a right has been taken away.
const envLacks = "ISTHMUS_TEST_LACKS_A_RIGHT"

// manifest gives what the agent's container may do, from the manifest that is installed.
func manifest(t *testing.T) *corev1.SecurityContext {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "config", "agent", "daemonset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(b, &set); err != nil {
		t.Fatal(err)
	}
	return set.Spec.Template.Spec.Containers[0].SecurityContext
}

// TestPrivileges: the agent works with the rights of its manifest, and would not with one capability less.
func TestPrivileges(t *testing.T) {
	c := manifest(t)
	switch {
	case c.Privileged != nil && *c.Privileged:
		t.Error("privileged")
	case c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem:
		t.Error("the root file system can be written to")
	case c.SeccompProfile == nil || c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Error("not the runtime's seccomp profile")
	case !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}):
		t.Errorf("drops %v only", c.Capabilities.Drop)
	}
	var all []string
	for _, name := range c.Capabilities.Add {
		all = append(all, string(name))
	}
	foreign := foreignProcess(t)
	run := func(tests string, capabilities []string, env ...string) (string, error) {
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run", "^("+tests+")$")
		cmd.Env = append(append(os.Environ(), envCapabilities+"="+strings.Join(capabilities, ","), envForeign+"="+strconv.Itoa(foreign)), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		runtime.LockOSThread() // Pdeathsig means the thread
		defer runtime.UnlockOSThread()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	within := "--- PASS: TestWithinPrivileges"
	if out, err := run("TestWithinPrivileges|TestStartingPodIsAnnounced|TestAgentRestart|TestUninstall", all); err != nil || !strings.Contains(out, within) {
		t.Errorf("with %v: %v\n%s", all, err, out)
	}
	for _, name := range all {
		less := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == name })
		if out, err := run("TestWithinPrivileges", less, envLacks+"=1"); err != nil || !strings.Contains(out, within) {
			t.Errorf("without %s nothing is missing: it should not be in the manifest: %v\n%s", name, err, out)
		}
	}
}

// TestWithinPrivileges is run by TestPrivileges, in a process that has the agent's rights: it finds the network of a pod by a process
// that is another user's, which alone asks for SYS_PTRACE. With one right too few, it wants the agent to fail for that reason.
func TestWithinPrivileges(t *testing.T) {
	pid := os.Getenv(envForeign)
	if pid == "" {
		return // TestPrivileges sees to it that it is run
	}
	n := newNode(t, namespace("shop", modeAmbient))
	pod := n.pod(1, "10.1.0.1", nil)
	dir := filepath.Join(n.options.Proc, "100")
	if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::/kubepods/pod"+uidOf(1)+"/c\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/"+pid+"/ns/net", filepath.Join(dir, "ns", "net")); err != nil {
		t.Fatal(err)
	}
	if os.Getenv(envLacks) == "" {
		n.start()
		p, _ := n.startProxy()
		n.until("the pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })
		sandbox, err := os.Open("/proc/" + pid + "/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer sandbox.Close()
		var accept []byte
		if err := redirect.Inside(sandbox, func() (err error) {
			accept, err = os.ReadFile("/proc/sys/net/ipv4/tcp_fwmark_accept")
			return err
		}); err != nil || strings.TrimSpace(string(accept)) == "0" {
			t.Errorf("what is accepted in the pod has no mark: %s, %v", accept, err)
		}
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, n.options) }()
	why := ""
	n.until("the agent to fail", func() bool {
		select {
		case err := <-ended:
			ended <- nil
			why = fmt.Sprint(err)
		default:
			why = n.event("Pod", pod.Name, reasonCaptureFailed)
		}
		return why != ""
	})
	cancel()
	<-ended
	if !strings.Contains(why, "permission denied") && !strings.Contains(why, "operation not permitted") {
		t.Errorf("failed with %s", why)
	}
}

// foreignProcess starts a process of a user without rights in a network namespace with the address 10.1.0.1, and gives its id.
func foreignProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo started; read line")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, lo := loopback(t, f)
	if err := h.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("10.1.0.1"), Mask: net.CIDRMask(32, 32)}}); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
