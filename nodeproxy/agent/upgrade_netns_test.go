// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// outside is an address that a pod can only get an answer from when its connections are captured.
const outside = "192.0.2.1:80"

// listener plays the proxy in a pod: it sends back what comes to 15001, and gives a way to connect to the outside from the pod.
func listener(t *testing.T, sandbox *os.File) (connect func() (net.Conn, error)) {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(sandbox.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "world"}, PeerName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	var eth0 netlink.Link
	for _, name := range []string{"world", "eth0"} {
		if eth0, err = h.LinkByName(name); err != nil {
			t.Fatal(err)
		}
		if err := h.LinkSetUp(eth0); err != nil {
			t.Fatal(err)
		}
	}
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	if err := h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: all}); err != nil {
		t.Fatal(err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, redirect.MarkProxy) })
		return err
	}}
	var l net.Listener
	if err := redirect.Inside(sandbox, func() error {
		var err error
		l, err = lc.Listen(context.Background(), "tcp4", "0.0.0.0:15001")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	return func() (c net.Conn, err error) {
		err = redirect.Inside(sandbox, func() error {
			c, err = (&net.Dialer{Timeout: 10 * time.Second}).Dial("tcp4", outside)
			return err
		})
		return c, err
	}
}

func exchange(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// TestAgentUpgradeUnderTraffic: agents come and go, each with other rules than the one before, while a pod's stream lives on and new
// connections are made all the time. None is lost, refused, or passes by the proxy.
func TestAgentUpgradeUnderTraffic(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	n.process(uidOf(1), sandbox)
	connect := listener(t, sandbox)
	stop := n.start()
	p, _ := n.startProxy()
	n.until("pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })
	stream, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()

	done := make(chan struct{})
	var load sync.WaitGroup
	connections := 0
	load.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			c, err := connect()
			if err == nil {
				err = exchange(c)
				_ = c.(*net.TCPConn).SetLinger(0) // or the pod's ports run out
				c.Close()
			}
			if err != nil {
				t.Errorf("connection %d: %v", connections, err)
				return
			}
			connections++
		}
	})
	for range 5 {
		before := p.snapshots()
		stop()
		n.options.DNS = !n.options.DNS
		stop = n.start()
		n.until("the next agent's snapshot", func() bool { return p.snapshots() > before })
		if err := exchange(stream); err != nil {
			t.Fatalf("the stream: %v", err)
		}
	}
	close(done)
	load.Wait()
	if !p.served(pod) || n.annotation(pod) != redirectionEnabled {
		t.Error("the pod left the mesh")
	}
	t.Logf("%d connections over 5 upgrades", connections)
	if connections == 0 {
		t.Error("nothing was tried")
	}
}

// TestReboot: after a reboot nothing is left but the API's objects and the directories on disk. Pods start anew, with other addresses.
func TestReboot(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	run := filepath.Join(n.dir, "run", "isthmus")
	n.options.ZDSSocket, n.options.CNISocket = filepath.Join(run, "zds.sock"), filepath.Join(run, "cni.sock")
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	gone := n.pod(2, "10.1.0.2", nil)
	n.process(uidOf(1), sandbox)
	n.process(uidOf(2), n.sandbox("10.1.0.2"))
	stop := n.start()
	p, stopProxy := n.startProxy()
	n.until("pods to be served", func() bool {
		return p.served(pod) && p.served(gone) && n.annotation(pod) == redirectionEnabled && n.annotation(gone) == redirectionEnabled
	})

	stopProxy()
	stop()
	for _, lost := range []string{filepath.Join(n.dir, "run"), n.options.Proc} {
		if err := os.RemoveAll(lost); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(n.options.Proc, 0o755); err != nil {
		t.Fatal(err)
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	deleteTable(t, own, "isthmus-probes")

	n.start()
	n.until("the agent's sockets", func() bool {
		_, err := os.Stat(n.options.CNISocket)
		return err == nil
	})
	p, _ = n.startProxy()
	second := n.sandbox("10.1.0.3")
	if code, text := n.announce(pod, second, "10.1.0.3"); code != http.StatusOK {
		t.Fatalf("answered %d: %s", code, text)
	}
	if !p.served(pod) || tables(t, second) != allTables {
		t.Errorf("served %v, tables %q", p.served(pod), tables(t, second))
	}
	// The pod that does not come again is forgotten, and the address that the other one had is nobody's.
	if err := n.client.CoreV1().Pods("shop").Delete(t.Context(), gone.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.until("the old addresses to be forgotten", func() bool { return probed(t) == "10.1.0.3" })
}

// TestSocketsAreGone: an agent that nobody can reach any more ends, so that another one starts in its place.
func TestSocketsAreGone(t *testing.T) {
	for name, socket := range map[string]func(Options) string{
		"the plugin's": func(o Options) string { return o.CNISocket }, "the proxies'": func(o Options) string { return o.ZDSSocket },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, namespace("shop", modeAmbient))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, n.options) }()
			path := socket(n.options)
			n.until("the socket", func() bool { _, err := os.Stat(path); return err == nil })
			// What another agent has put in its place is no reason to end.
			if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(2*socketLook, func() { os.Remove(path) })
			began := time.Now()
			if err := <-ended; err == nil || !strings.Contains(err.Error(), path) || time.Since(began) < 2*socketLook {
				t.Errorf("ended after %s with %v", time.Since(began), err)
			}
		})
	}
}

// An agent that starts meets pods whose addresses are not posted yet: the runtime announced them to the one before. One whose network can be found is served by any proxy, with
// its probes; one without a process yet goes on where it is served.
func TestAgentRestartBeforeAddressesArePosted(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	runs, runsSandbox := n.pod(1, "", nil), n.sandbox("10.1.0.1")
	begins, beginsSandbox := n.pod(2, "", nil), n.sandbox("10.1.0.2")
	leaves, leavesSandbox := n.pod(3, "", nil), n.sandbox("10.1.0.3")
	fresh := n.pod(4, "", nil) // nobody announced it
	stop := n.start()
	p, _ := n.startProxy()
	n.until("the snapshot", func() bool { return p.snapshots() == 1 })
	for pod, sandbox := range map[*corev1.Pod]*os.File{runs: runsSandbox, begins: beginsSandbox, leaves: leavesSandbox} {
		ip := "10.1.0." + strings.TrimPrefix(pod.Name, "cart-")
		if code, why := n.announce(pod, sandbox, ip); code != http.StatusOK {
			t.Fatalf("announce %s: %d %s", pod.Name, code, why)
		}
	}
	n.process(uidOf(1), n.sandbox("10.9.0.1")) // a container with a namespace of its own
	n.process(uidOf(1), runsSandbox)
	stop()

	before := p.snapshots()
	n.start()
	n.until("a second snapshot", func() bool { return p.snapshots() > before })
	if !p.served(runs) || !p.served(begins) || !p.served(leaves) || p.served(fresh) {
		t.Fatalf("after the agent's restart: %v %v %v %v", p.served(runs), p.served(begins), p.served(leaves), p.served(fresh))
	}
	if probed(t) != "10.1.0.1" {
		t.Errorf("probes pass to %q", probed(t))
	}
	next, _ := n.startProxy()
	n.until("a snapshot of the next proxy", func() bool { return next.snapshots() == 1 })
	if !next.served(runs) || next.served(begins) {
		t.Errorf("the next proxy serves %v, %v", next.served(runs), next.served(begins))
	}
	// What is found later is taken in, and what is not wanted any more is let go.
	n.process(uidOf(2), beginsSandbox)
	begins.Status.PodIPs = []corev1.PodIP{{IP: "10.1.0.2"}}
	if _, err := n.client.CoreV1().Pods("shop").UpdateStatus(t.Context(), begins, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.until("the next proxy to serve it", func() bool { return next.served(begins) })
	n.label(leaves, modeNone)
	n.until("the pod to leave", func() bool { return !p.served(leaves) })
}
