// SPDX-License-Identifier: Apache-2.0

//go:build netns

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// asProcess in the environment makes this test program the command itself, with the arguments that it has.
const asProcess = "NODEPROXY_TEST_AS_PROCESS"

func TestMain(m *testing.M) {
	if how := os.Getenv(asConfined); how != "" {
		confine(how)
	}
	if path := os.Getenv(asForbidden); path != "" {
		tryForbidden(path)
	}
	if os.Getenv(asProcess) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is the command in a process of its own, which can be killed.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func launch(t *testing.T, args []string) *process {
	t.Helper()
	return launchAs(t, asProcess+"=1", args)
}

func launchAs(t *testing.T, env string, args []string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...)}
	p.cmd.Env = append(os.Environ(), env)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Log(p.String())
		}
	})
	return p
}

// kill ends it as a crash does: nothing of it runs any more when this returns.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// TestCrashWhileTheControllerIsAway kills the proxy, with nobody there to tell the next one anything. Meanwhile nothing leaves or reaches a captured pod; the next
// one serves from what the last one had kept, over mTLS. When a controller is there again, what it says counts at once.
func TestCrashWhileTheControllerIsAway(t *testing.T) {
	s := newStage(t)
	first := launch(t, s.args)
	s.addPods(t)
	var reached atomic.Int64
	serve(t, s.cart, ":8081", func() string { reached.Add(1); return "cart" })
	eventually(t, "an answer", s.call)
	eventually(t, "readiness", s.isReady("ready"))
	eventually(t, "snapshot and certificates kept", func() error {
		if found, _ := os.ReadDir(s.keys); len(found) != 2 {
			return fmt.Errorf("%d files of keys", len(found))
		}
		return s.snapshot()
	})

	s.plane.stop()
	if err := s.call(); err != nil {
		t.Errorf("without the controller: %v", err)
	}
	first.kill()
	for _, to := range []string{"10.96.0.1:80", podAddr + ":8081", podAddr + ":8080"} {
		if err := fetch(s.till, to, ""); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("without a proxy, %s: %v; want it refused", to, err)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests reached the application without a proxy", n)
	}

	begun := time.Now()
	second := launch(t, s.args)
	eventually(t, "an answer of the next process", s.call)
	t.Logf("served again %v after the start of the next process", time.Since(begun).Round(time.Millisecond))
	eventually(t, "its readiness, with the reason for caution", s.isReady("ready\nno controller has said all yet: serving what one said "))
	s.measured(t, "isthmus_snapshot_restored 1", `isthmus_kept_certificates_total{used="true"} 2`, "isthmus_discovery_age_seconds ")
	if log := second.String(); !strings.Contains(log, `"tunnel":"hbone"`) || !strings.Contains(log, "spiffe://cluster.local/ns/shop/sa/till") {
		t.Error("the call was not a tunnel between proved identities")
	}

	// What is kept is not looked at where a controller answers: now it denies everybody.
	s.plane.world.Policies["shop/nobody"] = &mesh.Policy{Namespace: "shop", Name: "nobody", Scope: mesh.PolicyNamespace, Action: mesh.Allow}
	s.plane.unsure = true
	s.plane.start(t, "127.0.0.1:"+s.controller[strings.LastIndexByte(s.controller, ':')+1:])
	second.kill()
	third := launch(t, s.args)
	eventually(t, "readiness of the third", s.isReady("ready\n"))
	if err := s.call(); err == nil {
		t.Error("a policy that came while no proxy was there does not count")
	}
	if strings.Contains(third.String(), "serving from the snapshot") {
		t.Error("the snapshot was taken although a controller was there")
	}
	s.measured(t, "isthmus_snapshot_restored 0", "isthmus_discovery_partial 1")
	s.plane.settle()
	eventually(t, "that it knows all", func() error { return get("http://"+s.metrics+"/metrics", "isthmus_discovery_partial 0") })
}

// TestSupervisedCrash kills the process that serves, several times in a row: the supervisor begins it again before a kubelet would have heard of it.
func TestSupervisedCrash(t *testing.T) {
	s := newStage(t)
	supervisor := launch(t, append([]string{"supervise"}, s.args...))
	s.addPods(t)
	eventually(t, "an answer", s.call)
	fastest := time.Hour // of three: other work may hold a machine up once
	for n := range 3 {
		child := childOf(t, supervisor.cmd.Process.Pid)
		begun := time.Now()
		if err := unix.Kill(child, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another process", func() error {
			return get("http://"+s.metrics+"/metrics", fmt.Sprintf("isthmus_restarts %d\n", n+1))
		})
		eventually(t, "an answer", s.call)
		fastest = min(fastest, time.Since(begun))
		t.Logf("served again %v after the crash", time.Since(begun).Round(time.Millisecond))
	}
	if fastest >= 2*time.Second {
		t.Errorf("no crash was recovered from in less than 2 s, the fastest took %v", fastest)
	}
	child := childOf(t, supervisor.cmd.Process.Pid)
	supervisor.kill()
	eventually(t, "the end of the process with its supervisor's", func() error {
		if err := unix.Kill(child, 0); !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d still is there: %w", child, err)
		}
		return nil
	})
}

// childOf finds the one child of a process.
func childOf(t *testing.T, parent int) (pid int) {
	t.Helper()
	eventually(t, "a child", func() error {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
		for _, list := range lists {
			if text, _ := os.ReadFile(list); len(strings.Fields(string(text))) == 1 {
				pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
				return err
			}
		}
		return errors.Join(err, errors.New("it has none"))
	})
	return pid
}

// neighbour is a captured pod at the other end of the pod's link.
func neighbour(t *testing.T, pod *os.File, addr string) *os.File {
	t.Helper()
	space := newNamespace(t)
	h, err := netlink.NewHandleAt(netns.NsHandle(pod.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	peer, err := h.LinkByName("peer0")
	if err == nil {
		err = h.LinkSetNsFd(peer, int(space.Fd()))
	}
	if err != nil {
		t.Fatal(err)
	}
	inside, err := netlink.NewHandleAt(netns.NsHandle(space.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	at, err := netlink.ParseAddr(addr + "/24")
	if err != nil {
		t.Fatal(err)
	}
	peer, err = inside.LinkByName("peer0")
	lo, loErr := inside.LinkByName("lo")
	if err = errors.Join(err, loErr); err == nil {
		err = errors.Join(inside.LinkSetUp(lo), inside.AddrAdd(peer, at), inside.LinkSetUp(peer), inside.RouteAdd(&netlink.Route{Gw: net.ParseIP(podAddr)}))
	}
	if err == nil {
		err = redirect.Apply(space, redirect.Options{Inbound: true, DNS: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	return space
}

// serve answers HTTP inside a pod.
func serve(t *testing.T, pod *os.File, addr string, answer func() string) {
	t.Helper()
	var l net.Listener
	if err := redirect.Inside(pod, func() (err error) { l, err = net.Listen("tcp", addr); return err }); err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer()) })}
	done := make(chan error, 1)
	go func() { done <- app.Serve(l) }()
	t.Cleanup(func() { app.Close(); <-done })
}

// fetch asks an address from inside a pod.
func fetch(pod *os.File, to, want string) error {
	var nc net.Conn
	if err := redirect.Inside(pod, func() (err error) { nc, err = net.DialTimeout("tcp", to, 5*time.Second); return err }); err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(8 * time.Second))
	io.WriteString(nc, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(nc)
	if err == nil && !strings.HasSuffix(string(answer), want) {
		err = fmt.Errorf("answered %q", answer)
	}
	return err
}
