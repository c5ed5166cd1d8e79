// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

var (
	local  = mesh.ServiceKey{Namespace: "demo", Hostname: "local.demo.svc.cluster.local"}
	remote = mesh.ServiceKey{Namespace: "demo", Hostname: "remote.demo.svc.cluster.local"}
)

// world is the whole stage, played.
type world struct {
	east, west            *cluster
	wan                   *space
	client, server, plain *space
	stopEast              func()
	authority             map[string][]byte // of both clusters
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, 1)
}

// newWorldOf has so many pods behind the remote service: "server", "server-2" and so on, with applications that say "west-" and their name.
func newWorldOf(t *testing.T, servers int) *world {
	t.Helper()
	authority, err := ca.SelfSigned(trustDomain)
	must(t, err)
	w := &world{authority: authority, wan: newBridge(t), east: newCluster(t, "east", authority), west: newCluster(t, "west", authority)}
	w.wan.up("br0", "203.0.113.1/24")
	w.east.node.plug(w.wan, "wan", "203.0.113.2/24")
	// Pod addresses mean nothing outside their cluster.
	w.east.node.run("nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100 ; }; add rule ip nat post oifname wan masquerade")

	vip := func(network, addr string) mesh.NetworkAddress {
		return mesh.NetworkAddress{Network: network, Addr: netip.MustParseAddr(addr)}
	}
	ports := []mesh.Port{{Service: 80, Target: 8080}}
	sans := []string{"spiffe://cluster.local/ns/demo/sa/server"}
	gatewayKey := mesh.GatewayAddress{Addr: vip("west", gatewayWAN), Port: 15008}
	w.east.view.Apply(mesh.Delta{
		Services: map[mesh.ServiceKey]*mesh.Service{
			local:  {Namespace: "demo", Name: "local", Hostname: local.Hostname, Ports: ports, SANs: sans, Addresses: []mesh.NetworkAddress{vip("east", "10.96.0.10")}},
			remote: {Namespace: "demo", Name: "remote", Hostname: remote.Hostname, Ports: ports, SANs: sans, Addresses: []mesh.NetworkAddress{vip("east", "240.240.0.5"), vip("west", "10.96.0.11")}},
		},
		Workloads: map[string]*mesh.Workload{
			"NetworkGateway/west/203.0.113.9/15008": {
				UID: "NetworkGateway/west/203.0.113.9/15008", Namespace: "isthmus-system", Name: "eastwest", ServiceAccount: "eastwest",
				TrustDomain: trustDomain, Network: "west", Cluster: "west", Addresses: []netip.Addr{netip.MustParseAddr(gatewayWAN)},
			},
			"split/west": {
				UID: "split/west", Name: "split/west", Namespace: "demo", Network: "west", Cluster: "west", TrustDomain: trustDomain,
				Tunnel: mesh.TunnelHBONE, Capacity: 1, NetworkGateway: &gatewayKey,
				Services: map[mesh.ServiceKey][]mesh.Port{remote: ports},
			},
		},
	})
	w.west.view.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{
		remote: {Namespace: "demo", Name: "remote", Hostname: remote.Hostname, Ports: ports, SANs: sans, Addresses: []mesh.NetworkAddress{vip("west", "10.96.0.11")}},
	}})

	w.stopEast = w.east.start()
	w.west.start()
	w.client = w.east.pod("client", "10.77.0.2", &mesh.Workload{ServiceAccount: "client"})
	w.server = w.east.pod("server", "10.77.0.3", &mesh.Workload{ServiceAccount: "server", Services: map[mesh.ServiceKey][]mesh.Port{local: ports}})
	w.server.serveApp("east-server", ":8080")
	w.plain = w.east.pod("plain", "10.77.0.4", nil)
	w.plain.serveApp("plain", ":9000")
	westServer := w.west.pod("server", "10.77.0.3", &mesh.Workload{ServiceAccount: "server", Services: map[mesh.ServiceKey][]mesh.Port{remote: ports}})
	westServer.serveApp("west-server", ":8080")
	for n := 2; n <= servers; n++ {
		name := fmt.Sprintf("server-%d", n)
		pod := w.west.pod(name, fmt.Sprintf("10.77.0.%d", 10+n), &mesh.Workload{ServiceAccount: "server", Services: map[mesh.ServiceKey][]mesh.Port{remote: ports}})
		pod.serveApp("west-"+name, ":8080")
	}
	w.west.startGateway(w.wan, authority, &mesh.Gateway{
		Namespace: "isthmus-system", Name: "eastwest", Network: "west", ServiceAccount: "eastwest",
		Listeners: []mesh.Listener{{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerHBONE}},
		Exports:   []mesh.ServiceKey{remote}, TrustDomains: []string{trustDomain},
	})
	return w
}

func TestConnectionsCross(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name     string
		from     *space
		to, want string
	}{
		{"pod to pod over one tunnel", w.client, "10.77.0.3:8080", "east-server 10.77.0.2 "},
		{"service in this cluster", w.client, "10.96.0.10:80", "east-server 10.77.0.2 "},
		{"service in the other cluster over two tunnels", w.client, "240.240.0.5:80", "west-server " + gatewayPod + " "},
		{"again, over the same outer tunnel", w.client, "240.240.0.5:80", "west-server " + gatewayPod + " "},
		{"out of the mesh", w.client, "10.77.0.4:9000", "plain 10.77.0.2 "},
		{"into the mesh", w.plain, "10.77.0.3:8080", "east-server 10.77.0.4 "},
		{"pod to pod over IPv6", w.client, "[fd77::3]:8080", "east-server fd77::2 "},
		{"out of the mesh over IPv6", w.client, "[fd77::4]:9000", "plain fd77::2 "},
		{"into the mesh over IPv6", w.plain, "[fd77::3]:8080", "east-server fd77::4 "},
		{"a pod calls its own service", w.server, "10.96.0.10:80", "east-server 10.77.0.3 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.from.call(tc.to, "hello")
			if err != nil || got != tc.want+"hello" {
				t.Errorf("got %q, %v; want %q", got, err, tc.want+"hello")
			}
		})
	}
	for _, to := range []string{"10.96.0.10:81", "10.77.0.3:8081", "240.240.0.5:81", "10.77.0.2:15001"} {
		if got, err := w.client.call(to, "hello"); err == nil {
			t.Errorf("%s answered %q, want a failure", to, got)
		}
	}

	// Who both ends proved to be.
	w.east.log.find(t, `"direction":"outbound"`, `"tunnel":"double-hbone"`, `"peer":"spiffe://cluster.local/ns/demo/sa/server"`,
		`"service":"remote.demo.svc.cluster.local:80"`, `"destination":"203.0.113.9:15008"`, `"reason":"-"`)
	w.west.log.find(t, `"direction":"inbound"`, `"tunnel":"double-hbone"`, `"peer":"spiffe://cluster.local/ns/demo/sa/client"`,
		`"network":"east"`, `"status":200`, `"bytes_received":5`)
	w.east.log.find(t, `"direction":"inbound"`, `"tunnel":"plain"`, `"peer":""`, `"source":"10.77.0.4`)
	w.east.log.find(t, `"direction":"outbound"`, `"reason":"PROXY_PORT"`, `"service":"10.77.0.2:15001"`)
	w.east.log.find(t, `"direction":"outbound"`, `"reason":"NO_SUCH_PORT"`, `"service":"local.demo.svc.cluster.local:81"`)
}

// TestNothingReadableOnTheWAN listens on the WAN while a marker crosses it both ways.
func TestNothingReadableOnTheWAN(t *testing.T) {
	w := newWorld(t)
	marker := make([]byte, 16)
	rand.Read(marker)
	text := hex.EncodeToString(marker)
	tap, err := tapOf(w.wan)
	must(t, err)
	var mu sync.Mutex
	var seen bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 65536)
		for {
			n, _, err := unix.Recvfrom(tap, buffer, 0)
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err != nil {
				return
			}
			if n == 0 {
				return
			}
			mu.Lock()
			seen.Write(buffer[:n])
			mu.Unlock()
		}
	}()
	// What crosses outside the mesh can be read: the tap works.
	w.wan.serveApp("wan", "203.0.113.1:7000")
	const control = "control: not for secrets"
	if _, err := w.client.call("203.0.113.1:7000", control); err != nil {
		t.Fatal(err)
	}
	answer, err := w.client.call("240.240.0.5:80", text)
	if err != nil || !strings.HasSuffix(answer, text) {
		t.Fatalf("got %q, %v", answer, err)
	}
	wait(t, "packets on the WAN", func() bool { mu.Lock(); defer mu.Unlock(); return seen.Len() > 4000 })
	unix.Shutdown(tap, unix.SHUT_RDWR)
	unix.Close(tap)
	<-done
	if !bytes.Contains(seen.Bytes(), []byte(control)) {
		t.Error("the tap does not see what crosses in the clear")
	}
	if bytes.Contains(seen.Bytes(), []byte(text)) {
		t.Error("the marker can be read on the WAN")
	}
	if bytes.Contains(seen.Bytes(), []byte("remote.demo")) || bytes.Contains(seen.Bytes(), []byte("west-server")) {
		t.Error("names can be read on the WAN")
	}
}

func tapOf(s *space) (fd int, err error) {
	err = redirect.Inside(s.file, func() error {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000})
	})
	return fd, err
}

func TestBulkBothWays(t *testing.T) {
	w := newWorld(t)
	body := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB
	for _, to := range []string{"10.96.0.10:80", "240.240.0.5:80"} {
		began := time.Now()
		answer, err := w.client.call(to, body)
		if err != nil || !strings.HasSuffix(answer, body) {
			t.Errorf("%s: %d bytes came back, %v", to, len(answer), err)
		}
		t.Logf("%s: %d MiB each way in %v", to, len(body)>>20, time.Since(began))
	}
}

func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	var running sync.WaitGroup
	var failed atomic.Int64
	for i := range 200 {
		running.Go(func() {
			to := []string{"10.96.0.10:80", "240.240.0.5:80"}[i%2]
			if answer, err := w.client.call(to, "x"); err != nil || !strings.HasSuffix(answer, " x") {
				t.Errorf("%s: %q, %v", to, answer, err)
				failed.Add(1)
			}
		})
	}
	running.Wait()
}

func TestPolicyEndsWhatItTurnsAgainst(t *testing.T) {
	w := newWorld(t)
	deny := func(name string, m mesh.PolicyMatch) mesh.Delta {
		return mesh.Delta{Policies: map[string]*mesh.Policy{"demo/" + name: {
			Namespace: "demo", Name: name, Scope: mesh.PolicyNamespace, Action: mesh.Deny,
			Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{m}}}}},
		}}}
	}
	open := func(from *space, to string) *net.TCPConn {
		t.Helper()
		nc, err := from.dial(to)
		must(t, err)
		t.Cleanup(func() { nc.Close() })
		_, err = nc.Write([]byte("x"))
		must(t, err)
		return nc
	}
	ended := func(what string, nc *net.TCPConn) {
		t.Helper()
		must(t, nc.SetReadDeadline(time.Now().Add(5*time.Second)))
		if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: read %d, %v; want its end", what, n, err)
		}
	}
	tunnelled, plain := open(w.client, "10.96.0.10:80"), open(w.plain, "10.77.0.3:8080")
	remoteOpen := open(w.client, "240.240.0.5:80")
	w.east.log.find(t, `"pod served"`)
	// Both are established when their traffic was seen: ask for a third to be answered.
	if _, err := w.client.call("10.96.0.10:80", "x"); err != nil {
		t.Fatal(err)
	}
	w.east.view.Apply(deny("strict", mesh.PolicyMatch{NotPrincipals: []mesh.StringMatch{{Kind: mesh.MatchPresence}}}))
	ended("plaintext under a strict policy", plain)
	if got, err := w.plain.call("10.77.0.3:8080", "x"); err == nil {
		t.Errorf("plaintext under a strict policy answered %q", got)
	}
	if got, err := w.client.call("10.96.0.10:80", "x"); err != nil {
		t.Errorf("a tunnel under a strict policy: %q, %v", got, err)
	}
	client := mesh.PolicyMatch{Principals: []mesh.StringMatch{{Value: "cluster.local/ns/demo/sa/client"}}}
	w.east.view.Apply(deny("client", client))
	ended("a tunnelled connection that is denied now", tunnelled)
	w.west.view.Apply(deny("client", client))
	ended("a connection from the other cluster that is denied now", remoteOpen)
	for _, to := range []string{"10.96.0.10:80", "240.240.0.5:80"} {
		if got, err := w.client.call(to, "x"); err == nil {
			t.Errorf("%s: a denied client was answered %q", to, got)
		}
	}
	w.east.log.find(t, `"reason":"POLICY_CHANGED"`, `"direction":"inbound"`)
	w.east.log.find(t, `"reason":"DENY"`, `"direction":"inbound"`, `"status":401`)
}

func TestAnotherEndpointIsTried(t *testing.T) {
	w := newWorld(t)
	// A pod that is in the directory and does not exist any more, beside the one that does.
	dead := &mesh.Workload{
		UID: "east//Pod/demo/dead", Name: "dead", Namespace: "demo", Network: "east", Cluster: "east", ServiceAccount: "server",
		TrustDomain: trustDomain, Tunnel: mesh.TunnelHBONE, Capacity: 100, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.77")},
		Services: map[mesh.ServiceKey][]mesh.Port{local: {{Service: 80, Target: 8080}}},
	}
	w.east.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{dead.UID: dead}})
	for range 3 {
		if got, err := w.client.call("10.96.0.10:80", "x"); err != nil || !strings.HasPrefix(got, "east-server") {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

// TestAddressThatAnotherPodHasNow has the directory know a pod at an address that is another one's, of the same identity, by now: what is meant for the first does not reach the other.
func TestAddressThatAnotherPodHasNow(t *testing.T) {
	w := newWorld(t)
	w.east.pod("stranger", "10.77.0.6", &mesh.Workload{ServiceAccount: "server"}).serveApp("stranger", ":8080")
	old := &mesh.Workload{
		UID: "east//Pod/demo/old", Name: "old", Namespace: "demo", Network: "east", Cluster: "east", ServiceAccount: "server",
		TrustDomain: trustDomain, Tunnel: mesh.TunnelHBONE, Capacity: 100, Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.6")},
		Services: map[mesh.ServiceKey][]mesh.Port{local: {{Service: 80, Target: 8080}}},
	}
	// There is a tunnel to the address already.
	if got, err := w.client.call("10.77.0.6:8080", "x"); err != nil || !strings.HasPrefix(got, "stranger") {
		t.Fatalf("got %q, %v", got, err)
	}
	w.east.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{old.UID: old}})
	for range 3 {
		if got, err := w.client.call("10.96.0.10:80", "x"); err != nil || !strings.HasPrefix(got, "east-server") {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	w.east.log.find(t, "demo/stranger is not pod demo/old") // who is refused hears of it before it is written
}

// TestPodThatEndsSendsItsPeersAway marks a pod as unhealthy: its peers open new tunnels, nothing running is cut, and calls go on.
func TestPodThatEndsSendsItsPeersAway(t *testing.T) {
	w := newWorld(t)
	long, err := w.client.dial("10.77.0.3:8080")
	must(t, err)
	defer long.Close()
	_, err = long.Write([]byte("begun "))
	must(t, err)
	if _, err := w.client.call("10.77.0.3:8080", "x"); err != nil {
		t.Fatal(err)
	}
	if n := w.client.tunnels(); n != 1 {
		t.Fatalf("%d tunnels to one pod, want one that all share", n)
	}
	v := w.east.view.Load()
	ending := *v.Workload("east//Pod/demo/server")
	ending.Unhealthy = true
	w.east.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{ending.UID: &ending}})
	// GOAWAY makes the next connections take another tunnel, beside the old one, which carries what runs.
	wait(t, "another tunnel", func() bool {
		if got, err := w.client.call("10.77.0.3:8080", "x"); err != nil || got != "east-server 10.77.0.2 x" {
			t.Fatalf("got %q, %v", got, err)
		}
		return w.client.tunnels() == 2
	})
	for range 20 {
		if got, err := w.client.call("10.77.0.3:8080", "x"); err != nil || got != "east-server 10.77.0.2 x" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if got, err := w.client.call("10.96.0.10:80", "x"); err == nil {
		t.Errorf("the service has no healthy endpoint, and answered %q", got)
	}
	_, err = long.Write([]byte("ended"))
	must(t, err)
	must(t, long.CloseWrite())
	if got, err := io.ReadAll(long); err != nil || string(got) != "east-server 10.77.0.2 begun ended" {
		t.Errorf("the connection from before: %q, %v", got, err)
	}
	wait(t, "the end of the old tunnel with its last stream", func() bool { return w.client.tunnels() == 1 })
}

func TestNamesAreAnswered(t *testing.T) {
	w := newWorld(t)
	// A server of the cluster for everything else.
	upstream := w.east.pod("dns", "10.77.0.53", nil)
	handler := dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 5 IN A 192.0.2.1")
		reply.Answer = append(reply.Answer, rr)
		rw.WriteMsg(reply)
	})
	var packets net.PacketConn
	var streams net.Listener
	must(t, redirect.Inside(upstream.file, func() error {
		var err error
		if packets, err = net.ListenPacket("udp", "10.77.0.53:53"); err == nil {
			streams, err = net.Listen("tcp", "10.77.0.53:53")
		}
		return err
	}))
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}} {
		done := make(chan struct{})
		go func() { defer close(done); s.ActivateAndServe() }()
		t.Cleanup(func() { s.Shutdown(); <-done })
	}
	for _, network := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			"remote.demo.svc.cluster.local.":                        "240.240.0.5",
			"local.demo.svc.cluster.local.":                         "10.96.0.10",
			"remote.demo.svc.cluster.local.demo.svc.cluster.local.": "240.240.0.5",
			"elsewhere.example.":                                    "192.0.2.1",
		} {
			var nc net.Conn
			must(t, redirect.Inside(w.client.file, func() error {
				var err error
				nc, err = net.Dial(network, "10.77.0.53:53")
				return err
			}))
			query := new(dns.Msg).SetQuestion(name, dns.TypeA)
			reply, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).ExchangeWithConn(query, &dns.Conn{Conn: nc})
			nc.Close()
			if err != nil || len(reply.Answer) == 0 {
				t.Errorf("%s over %s: %v, %v", name, network, reply, err)
				continue
			}
			if a, ok := reply.Answer[len(reply.Answer)-1].(*dns.A); !ok || a.A.String() != want {
				t.Errorf("%s over %s: %v, want %s", name, network, reply.Answer, want)
			}
		}
	}
}

// TestUpgradeLosesNothing replaces the proxy while clients call without a pause.
func TestUpgradeLosesNothing(t *testing.T) {
	w := newWorld(t)
	long, err := w.client.dial("240.240.0.5:80")
	must(t, err)
	defer long.Close()
	_, err = long.Write([]byte("begun before "))
	must(t, err)
	if _, err := w.client.call("240.240.0.5:80", "x"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	var calls atomic.Int64
	for i := range 4 {
		running.Go(func() {
			to := []string{"10.96.0.10:80", "240.240.0.5:80"}[i%2]
			for {
				select {
				case <-stop:
					return
				default:
				}
				if answer, err := w.client.call(to, "x"); err != nil || !strings.HasSuffix(answer, " x") {
					t.Errorf("during the upgrade, %s: %q, %v", to, answer, err)
				}
				calls.Add(1)
			}
		})
	}
	wait(t, "calls", func() bool { return calls.Load() > 20 })
	w.east.start()
	drained := make(chan struct{})
	go func() { defer close(drained); w.stopEast() }()
	before := calls.Load()
	wait(t, "calls through the new proxy", func() bool { return calls.Load() > before+50 })
	select {
	case <-drained:
		t.Error("the old proxy did not wait for a running connection")
	default:
	}
	_, err = long.Write([]byte("ended after"))
	must(t, err)
	must(t, long.CloseWrite())
	answer, err := io.ReadAll(long)
	if err != nil || !strings.HasSuffix(string(answer), "begun before ended after") {
		t.Errorf("the connection from before: %q, %v", answer, err)
	}
	select {
	case <-drained:
	case <-time.After(15 * time.Second):
		t.Error("the old proxy did not end")
	}
	before = calls.Load()
	wait(t, "calls after the old proxy", func() bool { return calls.Load() > before+50 })
	close(stop)
	running.Wait()
	t.Logf("%d calls", calls.Load())
}

// TestPodThatIsGoneKeepsWhatIsOpen deletes a pod while a connection of it is open: it goes on, and no new ones are taken.
func TestPodThatIsGoneKeepsWhatIsOpen(t *testing.T) {
	w := newWorld(t)
	long, err := w.client.dial("240.240.0.5:80")
	must(t, err)
	defer long.Close()
	_, err = long.Write([]byte("begun "))
	must(t, err)
	if _, err := w.client.call("240.240.0.5:80", "x"); err != nil {
		t.Fatal(err)
	}
	must(t, w.east.agent.Del(t.Context(), "client-uid"))
	wait(t, "listeners closed", func() bool {
		nc, err := w.client.dial("240.240.0.5:80")
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	_, err = long.Write([]byte("ended"))
	must(t, err)
	must(t, long.CloseWrite())
	if got, err := io.ReadAll(long); err != nil || !strings.HasSuffix(string(got), " begun ended") {
		t.Errorf("the connection from before: %q, %v", got, err)
	}
}
