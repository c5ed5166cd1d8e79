// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// The node is the network namespace of the test's process, and must not be the machine's: the test runs itself again in a new one.
func TestMain(m *testing.M) {
	const again = "ISTHMUS_TEST_NODE"
	if os.Getenv(again) != "" {
		if err := confine(); err != nil {
			fmt.Fprintln(os.Stderr, "confine the process:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), again+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig means the thread
	if err := cmd.Run(); err != nil {
		var status *exec.ExitError
		if errors.As(err, &status) {
			os.Exit(status.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "these tests need root:", err)
		os.Exit(1)
	}
}

// node is a node as the agent sees it: a process table, directories, and network namespaces that stand for pods.
type node struct {
	t       *testing.T
	options Options
	client  kubernetes.Interface
	dir     string
	pids    int
}

func newNode(t *testing.T, objects ...*corev1.Namespace) *node {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"proc", "bin", "conf"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := `{"cniVersion":"1.0.0","name":"lab","plugins":[{"type":"ptp"}]}`
	if err := os.WriteFile(filepath.Join(dir, "conf", "10-lab.conflist"), []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset()
	for _, o := range objects {
		if _, err := client.CoreV1().Namespaces().Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return &node{t: t, client: client, dir: dir, pids: 100, options: Options{
		Log: testr.New(t), Client: client, NodeName: "n1", DNS: true,
		Selection: Selection{SystemNamespace: "isthmus-system", ExcludeNamespaces: []string{"isthmus-system", "kube-system"}},
		ZDSSocket: filepath.Join(dir, "zds.sock"), CNISocket: filepath.Join(dir, "cni.sock"),
		CNIBinDir: filepath.Join(dir, "bin"), CNIConf: filepath.Join(dir, "conf"), Proc: filepath.Join(dir, "proc"), Listen: "127.0.0.1:0",
	}}
}

// start runs an agent on the node and gives the function that stops it.
func (n *node) start() (stop func()) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, n.options) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Errorf("agent: %v", err)
		}
	})
	n.t.Cleanup(stop)
	return stop
}

// sandbox makes a pod's network namespace with an address.
func (n *node) sandbox(ip string) *os.File {
	n.t.Helper()
	f, err := netspace.New()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { f.Close() })
	h, lo := loopback(n.t, f)
	if err := h.LinkSetUp(lo); err != nil {
		n.t.Fatal(err)
	}
	if err := h.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(32, 32)}}); err != nil {
		n.t.Fatal(err)
	}
	return f
}

// loopback is the loopback device of a namespace, and what to change it by.
func loopback(t *testing.T, f *os.File) (*netlink.Handle, netlink.Link) {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	lo, err := h.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return h, lo
}

// path is how the plugin would name the namespace.
func path(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// process puts a process of a pod into the node's process table.
func (n *node) process(uid string, netns *os.File) {
	n.t.Helper()
	n.pids++
	dir := filepath.Join(n.options.Proc, fmt.Sprint(n.pids))
	if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::/kubepods/pod"+uid+"/c\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Symlink(path(netns), filepath.Join(dir, "ns", "net")); err != nil {
		n.t.Fatal(err)
	}
}

func uidOf(number int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", number) }

// pod creates a pod object on the node; without an address it has not started.
func (n *node) pod(number int, ip string, labels map[string]string) *corev1.Pod {
	n.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("cart-%d", number), UID: types.UID(uidOf(number)), Labels: labels},
		Spec:       corev1.PodSpec{NodeName: "n1", ServiceAccountName: "cart"},
	}
	if ip != "" {
		p.Status.PodIPs = []corev1.PodIP{{IP: ip}}
	}
	p, err := n.client.CoreV1().Pods("shop").Create(n.t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (n *node) annotation(pod *corev1.Pod) string {
	n.t.Helper()
	p, err := n.client.CoreV1().Pods(pod.Namespace).Get(n.t.Context(), pod.Name, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	return p.Annotations[annotationRedirection]
}

func (n *node) label(pod *corev1.Pod, value string) {
	n.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, labelMode, value)
	if _, err := n.client.CoreV1().Pods(pod.Namespace).Patch(n.t.Context(), pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

// announce does what the plugin does when a pod starts.
func (n *node) announce(pod *corev1.Pod, netns *os.File, ip string) (int, string) {
	n.t.Helper()
	return n.post(cni.AddPath, pod, netns, ip)
}

// post tells the agent of a pod as the plugin does.
func (n *node) post(to string, pod *corev1.Pod, netns *os.File, ip string) (int, string) {
	n.t.Helper()
	event := cni.Event{Netns: path(netns), PodName: pod.Name, PodNamespace: pod.Namespace, PodUID: string(pod.UID),
		IPs: []cni.Address{{Address: netip.MustParsePrefix(ip + "/24")}}}
	body, err := json.Marshal(event)
	if err != nil {
		n.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.options.CNISocket)
	}}}
	resp, err := client.Post("http://agent"+to, "application/json", bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// tables lists our tables in a namespace; one without rules is left out.
func tables(t *testing.T, f *os.File) string {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(f.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, table := range list {
		if table.Name == "isthmus-zone" { // the library cannot read its rule
			names = append(names, table.Name)
			continue
		}
		rules := 0
		for _, chain := range []string{"prerouting", "output"} {
			all, err := c.GetRules(table, &nftables.Chain{Table: table, Name: chain})
			if err != nil {
				t.Fatal(err)
			}
			rules += len(all)
		}
		if rules > 0 {
			names = append(names, table.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

const (
	allTables = "isthmus-mangle isthmus-nat isthmus-raw isthmus-zone"
	// releasedTables is what the open connections of a pod that left still need.
	releasedTables = "isthmus-mangle isthmus-zone"
)

// probed lists the addresses in the node's set.
func probed(t *testing.T) string {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.GetSetElements(&nftables.Set{Table: &nftables.Table{Family: nftables.TableFamilyINet, Name: "isthmus-probes"}, Name: "probes-v4"})
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, e := range list {
		a, _ := netip.AddrFromSlice(e.Key)
		all = append(all, a.String())
	}
	return strings.Join(all, " ")
}

func (n *node) until(what string, f func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// proxy is a node proxy that serves every pod and knows which ones it serves.
type proxy struct {
	self     zds.Proxy
	mu       sync.Mutex
	named    map[string]bool
	serves   map[string]string // uid → name
	ending   map[string]bool   // by uid
	snapshot int
	refuse   error
	refused  int // pods, or the same one again
}

func newProxy() *proxy { return &proxy{serves: map[string]string{}, ending: map[string]bool{}} }

func (p *proxy) Connected(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if up {
		p.named = map[string]bool{}
	}
}

func (p *proxy) Add(_ context.Context, w zds.Workload, netns *os.File) error {
	defer netns.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		p.refused++
		return p.refuse
	}
	p.named[w.UID] = true
	p.serves[w.UID] = w.Namespace + "/" + w.Name + "/" + w.ServiceAccount
	p.ending[w.UID] = w.Terminating
	return nil
}

func (p *proxy) Keep(uid string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.named[uid] = true
	return nil
}

func (p *proxy) Del(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.serves, uid)
}

func (p *proxy) SnapshotSent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshot++
	for uid := range p.serves {
		if !p.named[uid] {
			delete(p.serves, uid)
		}
	}
}

func (p *proxy) served(pod *corev1.Pod) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serves[string(pod.UID)] != ""
}

// terminating says whether the proxy serves a pod of which it knows that it is ending.
func (p *proxy) terminating(pod *corev1.Pod) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serves[string(pod.UID)] != "" && p.ending[string(pod.UID)]
}

func (p *proxy) snapshots() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot
}

func (p *proxy) setRefuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = err
}

func (p *proxy) refusals() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

func (n *node) startProxy() (p *proxy, stop func()) { return n.startProxyAs(zds.Proxy{}) }

func (n *node) startProxyAs(self zds.Proxy) (p *proxy, stop func()) {
	return n.startProxyThat(nil, self)
}

// startProxyThat refuses every pod if refuses is not nil.
func (n *node) startProxyThat(refuses error, self zds.Proxy) (p *proxy, stop func()) {
	p = newProxy()
	p.self, p.refuse = self, refuses
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- zds.Run(ctx, n.options.ZDSSocket, p.self, p, n.options.Log.WithName("proxy")) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	n.t.Cleanup(stop)
	return p, stop
}

func namespace(name, mode string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{labelMode: mode}}}
}
