// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// The stage: two clusters whose pods have the same addresses, and a WAN on which only their nodes and gateways are reachable.
//
//	east pods 10.77.0.0/24 ── east node ── WAN 203.0.113.0/24 ── west gateway ── west pods 10.77.0.0/24
const (
	nodeAddr    = "10.77.0.1"
	gatewayPod  = "10.77.0.9"
	gatewayWAN  = "203.0.113.9"
	trustDomain = "cluster.local"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("ISTHMUS_TEST_GATEWAY"); path != "" {
		runGateway(path)
		return
	}
	os.Exit(m.Run())
}

// space is a network namespace that lives as long as its file is open.
type space struct {
	t    *testing.T
	file *os.File
}

func newSpace(t *testing.T) *space {
	t.Helper()
	f, err := netspace.New()
	must(t, err)
	t.Cleanup(func() { f.Close() })
	s := &space{t, f}
	s.up("lo", "")
	return s
}

func (s *space) handle() *netlink.Handle {
	s.t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(s.file.Fd()))
	must(s.t, err)
	return h
}

func (s *space) up(name, addr string) {
	s.t.Helper()
	h := s.handle()
	defer h.Close()
	l, err := h.LinkByName(name)
	must(s.t, err)
	if addr != "" {
		a, err := netlink.ParseAddr(addr)
		must(s.t, err)
		a.Flags = unix.IFA_F_NODAD
		must(s.t, h.AddrAdd(l, a))
	}
	must(s.t, h.LinkSetUp(l))
}

// twin is the IPv6 address of whoever has an IPv4 one.
func twin(addr string) string { return "fd77::" + addr[strings.LastIndexByte(addr, '.')+1:] }

func (s *space) via(gateway string) {
	s.t.Helper()
	h := s.handle()
	defer h.Close()
	must(s.t, h.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}))
}

// run runs a program of the host inside the namespace.
func (s *space) run(name string, args ...string) {
	s.t.Helper()
	var out []byte
	err := redirect.Inside(s.file, func() error {
		var err error
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		s.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// newBridge makes a namespace whose bridge others plug into.
func newBridge(t *testing.T) *space {
	s := newSpace(t)
	h := s.handle()
	defer h.Close()
	must(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	s.up("br0", "")
	return s
}

var plugs int

// plug joins a namespace to a bridge's, by a device with this name and address.
func (s *space) plug(into *space, device, addr string) {
	s.t.Helper()
	plugs++
	port := fmt.Sprintf("p%d", plugs)
	h := into.handle()
	defer h.Close()
	must(s.t, h.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: device, PeerNamespace: netlink.NsFd(int(s.file.Fd())),
	}))
	l, err := h.LinkByName(port)
	must(s.t, err)
	bridge, err := h.LinkByName("br0")
	must(s.t, err)
	must(s.t, h.LinkSetMaster(l, bridge))
	must(s.t, h.LinkSetUp(l))
	s.up(device, addr)
}

// cluster is one side: its pods' network, its view of the mesh, its agent and its proxy.
type cluster struct {
	t      *testing.T
	name   string
	node   *space
	view   *directory.Live
	certs  *mtls.Source
	agent  *zds.Server
	socket string
	run    string // by which proxies follow each other
	log    *lines
	pods   map[string]*space
	// metrics are those of the proxy that was started last.
	metrics *prometheus.Registry
	// cramped, if it is set, is how many connections a listener of a pod may have.
	cramped int
	// drain is the proxies' time to drain.
	drain time.Duration
}

type signer struct{ *ca.Signer }

func (s signer) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return s.Sign(id, csrPEM, time.Hour)
}

func newCluster(t *testing.T, name string, authority map[string][]byte) *cluster {
	t.Helper()
	s, err := ca.NewSigner(authority)
	must(t, err)
	c := &cluster{
		t: t, name: name, node: newBridge(t), view: directory.NewLive(), socket: filepath.Join(t.TempDir(), "zds.sock"), run: t.TempDir(),
		log: &lines{}, drain: 10 * time.Second, pods: map[string]*space{}, certs: mtls.NewSource(signer{s}, mtls.SourceOptions{Log: logr.Discard()}),
	}
	t.Cleanup(c.certs.Close)
	c.node.up("br0", nodeAddr+"/24")
	c.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	c.agent = zds.NewServer(c.socket, logr.Discard())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.agent.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// start runs one proxy process's worth of proxy until it is ready, and gives what ends it.
func (c *cluster) start() (stop func()) {
	c.t.Helper()
	x, stop := c.begin(c.certs, c.log)
	wait(c.t, "proxy ready", func() bool { return len(x.Waits()) == 0 })
	return stop
}

// begin does not wait.
func (c *cluster) begin(certs *mtls.Source, log *lines) (x *nodeproxy.Proxy, stop func()) {
	c.t.Helper()
	c.metrics = prometheus.NewRegistry()
	o := nodeproxy.Options{
		Registerer: c.metrics, Log: log.logger(), AccessLog: log.logger(), Network: c.name, Cluster: c.name, ClusterDomain: "cluster.local",
		View: c.view, Certificates: certs, Socket: c.socket, Succession: c.run, Drain: c.drain, Tracer: traced,
		Nameservers: []netip.AddrPort{netip.MustParseAddrPort("10.77.0.53:53")},
	}
	if c.cramped > 0 {
		o = o.Cramped(c.cramped)
	}
	x, err := nodeproxy.New(o)
	must(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); x.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	c.t.Cleanup(stop)
	return x, stop
}

// pod makes a pod; workload is what the mesh says of it, or nil for one outside the mesh.
func (c *cluster) pod(name, addr string, w *mesh.Workload) *space {
	c.t.Helper()
	s := newSpace(c.t)
	c.pods[name] = s
	s.plug(c.node, "eth0", addr+"/24")
	s.up("eth0", twin(addr)+"/64")
	s.via(nodeAddr)
	if w == nil {
		return s
	}
	w.UID, w.Name, w.Namespace, w.Cluster, w.Network = c.name+"//Pod/demo/"+name, name, "demo", c.name, c.name
	w.Addresses, w.TrustDomain, w.Tunnel = []netip.Addr{netip.MustParseAddr(addr), netip.MustParseAddr(twin(addr))}, trustDomain, mesh.TunnelHBONE
	w.Capacity, w.WorkloadName, w.CanonicalName = 1, name, name
	c.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}})
	must(c.t, redirect.Apply(s.file, redirect.Options{Inbound: true, DNS: true, IPv6: true}))
	must(c.t, c.agent.Add(c.t.Context(), zds.Workload{UID: name + "-uid", Name: name, Namespace: "demo", ServiceAccount: w.ServiceAccount}, s.file))
	return s
}

// startGateway runs a gateway as a process of its own in a pod of the cluster with a leg on the WAN.
func (c *cluster) startGateway(wan *space, authority map[string][]byte, g *mesh.Gateway) {
	c.t.Helper()
	pod := newSpace(c.t)
	pod.plug(c.node, "eth0", gatewayPod+"/24")
	pod.plug(wan, "wan", gatewayWAN+"/24")
	path := filepath.Join(c.t.TempDir(), "gateway.gob")
	f, err := os.Create(path)
	must(c.t, err)
	must(c.t, gob.NewEncoder(f).Encode(gatewayProcess{
		Authority: authority, State: mesh.Delta(c.view.Load().Snapshot()), Gateway: *g, Traces: tracedAt,
	}))
	must(c.t, f.Close())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ISTHMUS_TEST_GATEWAY="+path)
	cmd.Stdout, cmd.Stderr = c.log, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		// A parent-death signal comes when the thread ends that started the process, so this one stays.
		runtime.LockOSThread()
		defer close(ended)
		must := unix.Setns(int(pod.file.Fd()), unix.CLONE_NEWNET)
		if must == nil {
			must = cmd.Start()
		}
		if started <- must; must == nil {
			cmd.Wait()
		}
	}()
	must(c.t, <-started)
	c.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	wait(c.t, "gateway listens", func() bool {
		return redirect.Inside(wan.file, func() error {
			nc, err := net.Dial("tcp", net.JoinHostPort(gatewayWAN, "15008"))
			if err == nil {
				nc.Close()
			}
			return err
		}) == nil
	})
}

// gatewayProcess is what the process is told.
type gatewayProcess struct {
	Authority map[string][]byte
	State     mesh.Delta
	Gateway   mesh.Gateway
	Traces    string // where it sends spans
}

func runGateway(path string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "gateway:", err)
			os.Exit(1)
		}
	}
	f, err := os.Open(path)
	fail(err)
	var p gatewayProcess
	fail(gob.NewDecoder(f).Decode(&p))
	s, err := ca.NewSigner(p.Authority)
	fail(err)
	view := directory.NewLive()
	p.State.Gateways = map[mesh.GatewayKey]*mesh.Gateway{p.Gateway.Key(): &p.Gateway}
	view.Apply(p.State)
	log := funcr.NewJSON(func(line string) { fmt.Println(line) }, funcr.Options{})
	tracer, err := tracing.New(context.Background(), tracing.Options{Endpoint: p.Traces, Ratio: 1, Registerer: prometheus.NewRegistry()})
	fail(err)
	defer tracer.Shutdown()
	server, err := gateway.NewServer(gateway.Options{
		Log: log, Access: log, Gateway: p.Gateway.Key(), Directory: view, Network: p.Gateway.Network,
		Identity: mesh.Identity{TrustDomain: trustDomain, Namespace: p.Gateway.Namespace, ServiceAccount: p.Gateway.ServiceAccount},
		Source:   mtls.NewSource(signer{s}, mtls.SourceOptions{Log: logr.Discard()}), Metrics: prometheus.NewRegistry(),
		Drain: time.Second, Tracer: tracer,
	})
	fail(err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server.Run(ctx)
}

// lines collects log lines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) logger() logr.Logger {
	return funcr.NewJSON(func(line string) { l.Write([]byte(line + "\n")) }, funcr.Options{Verbosity: 1})
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// first gives the first line so far that holds all the parts, or "".
func (l *lines) first(parts ...string) string {
next:
	for line := range strings.Lines(l.String()) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		return line
	}
	return ""
}

// find is first, and fails if there is none after a while: long enough for a machine that has much else to do.
func (l *lines) find(t *testing.T, parts ...string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if found := l.first(parts...); found != "" {
			return found
		}
	}
	t.Errorf("no line with %q in:\n%s", parts, l)
	return ""
}

// tunnels counts the established connections from here to port 15008 of others.
func (s *space) tunnels() int { return s.connectedTo(15008) }

// connectedTo counts the established connections from here to a port.
func (s *space) connectedTo(port uint16) (n int) {
	end := fmt.Sprintf(":%04X", port)
	must(s.t, redirect.Inside(s.file, func() error {
		for _, table := range []string{"tcp", "tcp6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + table)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				// The remote address and the state (include/net/tcp_states.h) are the third and fourth column.
				if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[2], end) && f[3] == "01" {
					n++
				}
			}
		}
		return nil
	}))
	return n
}

// serveApp listens in a pod as an application: it reads to the end, and answers its name, who called, and what it read.
func (s *space) serveApp(name, addr string) {
	s.t.Helper()
	var l net.Listener
	must(s.t, redirect.Inside(s.file, func() error {
		var err error
		l, err = net.Listen("tcp", addr)
		return err
	}))
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer nc.Close()
				body, err := io.ReadAll(nc)
				if err != nil {
					return
				}
				fmt.Fprintf(nc, "%s %s %s", name, addrOf(nc.RemoteAddr()), body)
			})
		}
	})
	s.t.Cleanup(func() { l.Close(); running.Wait() })
}

func addrOf(a net.Addr) string { return a.(*net.TCPAddr).AddrPort().Addr().Unmap().String() }

// dial connects from inside a pod as an application.
func (s *space) dial(addr string) (*net.TCPConn, error) {
	var nc net.Conn
	err := redirect.Inside(s.file, func() error {
		var err error
		nc, err = (&net.Dialer{Timeout: 15 * time.Second}).Dial("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return nc.(*net.TCPConn), nc.SetDeadline(time.Now().Add(20 * time.Second))
}

// call sends a body, ends its direction, and gives the whole answer.
func (s *space) call(addr, body string) (string, error) {
	nc, err := s.dial(addr)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, body); err != nil {
		return "", err
	}
	if err := nc.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(nc)
	if err == nil && len(answer) == 0 {
		err = errors.New("ended without an answer")
	}
	return string(answer), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}
