// SPDX-License-Identifier: Apache-2.0

//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
	"github.com/isthmus-mesh/isthmus/test/netspace"
)

const podAddr = "10.77.0.2"

// TestProcess runs the command's own wiring against a real control plane's wire, the agent's wire, and one pod that calls its own
// service: out, through a tunnel, and in again.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	plane := newPlane(t)
	controller, root, stopController := plane.start(t, ""), plane.signer.RootPEM(), plane.stop
	writeFile(t, filepath.Join(dir, "root.pem"), root)
	writeFile(t, filepath.Join(dir, "token"), "the token\n")
	writeFile(t, filepath.Join(dir, "resolv.conf"), "nameserver 127.0.0.53\n")
	agent := zds.NewServer(filepath.Join(dir, "zds.sock"), logr.Discard())
	agentCtx, endAgent := context.WithCancel(context.Background())
	agentDone := make(chan error, 1)
	go func() { agentDone <- agent.Run(agentCtx) }()
	t.Cleanup(func() { endAgent(); <-agentDone })

	ready, metrics, admin := free(t), free(t), free(t)
	f, err := parse([]string{
		"--controller=" + controller, "--network=east", "--cluster-id=east", "--zds-socket=" + filepath.Join(dir, "zds.sock"),
		"--token-path=" + filepath.Join(dir, "token"), "--root-ca=" + filepath.Join(dir, "root.pem"),
		"--resolv-conf=" + filepath.Join(dir, "resolv.conf"), "--ready-address=" + ready, "--metrics-address=" + metrics,
		"--admin-address=" + admin, "--state-dir=" + filepath.Join(dir, "state"), "--drain=5s", "--v=1", "--pod-name=p", "--pod-namespace=isthmus-system", "--instance-ip=10.0.0.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var log strings.Builder
	logger := funcr.NewJSON(func(line string) { mu.Lock(); defer mu.Unlock(); log.WriteString(line + "\n") }, funcr.Options{Verbosity: 1})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, f, logger) }()
	finished := sync.OnceValue(func() error { stop(); return <-ended })
	t.Cleanup(func() {
		if err := finished(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	eventually(t, "ready", func() error { return get("http://"+ready+"/healthz/ready", "ready") })

	pod := newPod(t)
	if err := agent.Add(t.Context(), zds.Workload{UID: "uid", Name: "cart-0", Namespace: "shop", ServiceAccount: "cart"}, pod); err != nil {
		t.Fatal(err)
	}
	const request = "GET / HTTP/1.0\r\n\r\n"
	eventually(t, "an answer through the mesh", func() error {
		var nc net.Conn
		if err := redirect.Inside(pod, func() (err error) { nc, err = net.Dial("tcp", "10.96.0.1:80"); return err }); err != nil {
			return err
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(8 * time.Second))
		io.WriteString(nc, request)
		answer, err := io.ReadAll(nc)
		if err == nil && !strings.HasSuffix(string(answer), "hello from the pod") {
			err = fmt.Errorf("answered %q", answer)
		}
		return err
	})
	eventually(t, "metrics", func() error {
		return get("http://"+metrics+"/metrics", `istio_tcp_connections_closed_total{connection_security_policy="mutual_tls",destination_app="unknown"`)
	})
	for _, want := range []string{
		`istio_xds_message_total{url="type.googleapis.com/istio.workload.Address"}`, `istio_xds_message_bytes_total{url="type.googleapis.com/istio.workload.Address"}`,
		`istio_tcp_sockets_open{reporter="source"}`, "workload_manager_active_proxy_count 1",
	} {
		if err := get("http://"+metrics+"/metrics", want); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "dump", func() error { return get("http://"+admin+"/config_dump", `"cart.shop.svc.cluster.local"`) })
	eventually(t, "connections", func() error { return get("http://"+admin+"/connections", "[") })
	for path, want := range map[string]string{
		"/certificates": `"Identity": "spiffe://cluster.local/ns/shop/sa/cart"`, "/logging": "debug", "/debug/pprof/": "heap", "/debug/pprof/heap?debug=1": "heap profile",
	} {
		if err := get("http://"+admin+path, want); err != nil {
			t.Error(err)
		}
	}

	// Without its controller it goes on answering names, from what it knew last.
	stopController()
	for range 3 {
		var nc net.Conn
		if err := redirect.Inside(pod, func() (err error) { nc, err = net.Dial("udp", "10.77.0.53:53"); return err }); err != nil {
			t.Fatal(err)
		}
		reply, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeWithConn(new(dns.Msg).SetQuestion("cart.shop.svc.cluster.local.", dns.TypeA), &dns.Conn{Conn: nc})
		nc.Close()
		if err != nil || len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != "10.96.0.1" {
			t.Errorf("a name without the controller: %v, %v", reply, err)
		}
	}
	eventually(t, "metrics of names", func() error { return get("http://"+metrics+"/metrics", "istio_dns_requests_total 3") })

	if err := finished(); err != nil {
		t.Error(err)
	}
	if err := get("http://"+ready+"/healthz/ready", ""); err == nil {
		t.Error("readiness is still served after the end")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{
		`"direction":"inbound"`, `"peer":"spiffe://cluster.local/ns/shop/sa/cart"`, `"drained"`, `"source_cluster":"east"`, `"destination_cluster":"east"`,
		`"source_identity":"spiffe://cluster.local/ns/shop/sa/cart"`, `"destination_identity":"spiffe://cluster.local/ns/shop/sa/cart"`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in the log", want)
		}
	}
}

// newPod is a namespace with an address, the agent's rules and an application.
func newPod(t *testing.T) *os.File {
	t.Helper()
	pod := newNamespace(t)
	h, err := netlink.NewHandleAt(netns.NsHandle(pod.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	addr, err := netlink.ParseAddr(podAddr + "/24")
	if err != nil {
		t.Fatal(err)
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"}
	lo, err := h.LinkByName("lo")
	err = errors.Join(err, h.LinkAdd(link), h.LinkSetUp(lo), h.AddrAdd(link, addr), h.LinkSetUp(link))
	peer, peerErr := h.LinkByName("peer0")
	err = errors.Join(err, peerErr, h.LinkSetUp(peer), h.RouteAdd(&netlink.Route{Gw: net.ParseIP("10.77.0.1")}))
	if err != nil {
		t.Fatal(err)
	}
	if err := redirect.Apply(pod, redirect.Options{Inbound: true, DNS: true}); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := redirect.Inside(pod, func() (err error) { l, err = net.Listen("tcp", ":8080"); return err }); err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello from the pod") })}
	done := make(chan error, 1)
	go func() { done <- app.Serve(l) }()
	t.Cleanup(func() { app.Close(); <-done })
	return pod
}

func newNamespace(t *testing.T) *os.File {
	t.Helper()
	space, err := netspace.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { space.Close() })
	return space
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// free is an address that nobody listens on at the moment.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(url, want string) error {
	response, err := (&http.Client{Timeout: 2 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(string(body), want)) {
		err = fmt.Errorf("%s: %s without %q: %s", url, response.Status, want, body)
	}
	return err
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
