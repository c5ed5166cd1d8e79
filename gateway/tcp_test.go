// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// plainPod makes pod n, out of the mesh, that says who it is, and then echoes until the client's side ends.
func (s *scene) plainPod(n int) *mesh.Workload {
	w := s.tcp(n, func(nc *net.TCPConn) {
		fmt.Fprintf(nc, "pod %d\n", n)
		_, _ = io.Copy(nc, nc)
		_ = nc.CloseWrite()
	})
	return s.outOfMesh(w)
}

// outOfMesh takes a pod out of the mesh: it is reached at its own port, without HBONE.
func (s *scene) outOfMesh(w *mesh.Workload) *mesh.Workload {
	w.Tunnel = mesh.TunnelNone
	s.mu.Lock()
	defer s.mu.Unlock()
	inMesh := netip.AddrPortFrom(w.Addresses[0], mesh.HBONEPort)
	s.at[netip.AddrPortFrom(w.Addresses[0], 8080)] = s.at[inMesh]
	delete(s.at, inMesh)
	return w
}

func toCart() []mesh.StreamBackend {
	return []mesh.StreamBackend{{Service: cartKey, Port: 80, Weight: 1}}
}

// streaming is a gateway with a port for TCP, 5432, whose route has these backends; nil: no route at all.
func (s *scene) streaming(change func(*mesh.Gateway), backends ...mesh.StreamBackend) {
	s.t.Helper()
	s.configure(func(g *mesh.Gateway) {
		l := mesh.Listener{Name: "db", Port: 5432, Bind: 5432, Protocol: mesh.ListenerTCP}
		if backends != nil {
			l.Stream = &mesh.StreamRoute{Namespace: "shop", Name: "db", Backends: backends}
		}
		g.Listeners = append(g.Listeners, l)
		if change != nil {
			change(g)
		}
	})
}

func (s *scene) dialPort(bind uint16) *net.TCPConn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.address(bind))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * patience))
	return nc.(*net.TCPConn)
}

// A route that leads back to the gateway does not have one connection take the places of others.
func TestConnectionsThatComeBack(t *testing.T) {
	s := newScene(t, nil)
	s.streaming(nil, toCart()...)
	w := s.outOfMesh(s.tcp(1, nil))
	itself := s.address(5432)
	s.mu.Lock()
	s.at[netip.AddrPortFrom(w.Addresses[0], 8080)] = itself
	s.mu.Unlock()
	s.add(w)
	if err := s.knock(5432); err == nil {
		t.Error("something was answered")
	}
	s.until("the log says why", func() bool { return strings.Contains(s.logs.text(), `"reason":"`+string(ReasonLoop)+`"`) })
	s.until("it has ended", func() bool { return s.server.connections.used() == 0 })
	if n := len(s.logs.access()); n > 8 {
		t.Errorf("one connection made %d", n)
	}
}

// knock connects, and reads one byte. A reset may come before the connection is made, too.
func (s *scene) knock(bind uint16) error {
	nc, err := net.Dial("tcp", s.address(bind))
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	_, err = io.ReadFull(nc, make([]byte, 1))
	return err
}

func (s *scene) nothingLeft() {
	s.t.Helper()
	s.until("nothing is left", func() bool {
		return s.server.connections.used() == 0 && s.server.streamQuota.used() == 0 && s.server.services.used() == 0 && s.server.clients.used() == 0
	})
}

func TestTCPPassesBothWays(t *testing.T) {
	s := newScene(t, nil)
	s.streaming(nil, toCart()...)
	s.add(podWorkload(1, func(w *mesh.Workload) { w.Tunnel = mesh.TunnelNone }), s.plainPod(2)) // the first one refuses
	for range 3 {
		nc := s.dialPort(5432)
		line := make([]byte, 6)
		if _, err := io.ReadFull(nc, line); err != nil || string(line) != "pod 2\n" { // the server speaks first
			t.Fatalf("%q, %v", line, err)
		}
		if _, err := io.WriteString(nc, "hello"); err != nil {
			t.Fatal(err)
		}
		if err := nc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if echoed, err := io.ReadAll(nc); string(echoed) != "hello" || err != nil {
			t.Errorf("%q came back, %v", echoed, err)
		}
	}
	s.until("all is logged", func() bool { return len(s.logs.access()) == 3 })
	if line := s.logs.access()[0]; line["tunnel"] != "tcp" || line["service"] != hostname+":80" || line["workload"] != "shop/cart-2" || line["reason"] != "-" ||
		line["bytes_sent"] != float64(11) || line["bytes_received"] != float64(5) {
		t.Errorf("access log: %v", line)
	}
	s.nothingLeft()
}

// TestTCPIsRefused: who cannot be served is told by a reset, so that nobody takes it for an empty answer.
func TestTCPIsRefused(t *testing.T) {
	s := newScene(t, nil)
	for _, c := range []struct {
		reason   Reason
		backends []mesh.StreamBackend
	}{
		{ReasonNoRoute, nil},
		{ReasonNoBackend, []mesh.StreamBackend{}},
		{ReasonNoBackend, []mesh.StreamBackend{{Service: cartKey, Port: 80}}},
		{ReasonNoBackend, []mesh.StreamBackend{{Weight: 1, Problem: "there is no Service"}}},
		{ReasonNoBackend, []mesh.StreamBackend{{Service: mesh.ServiceKey{Namespace: "a", Hostname: "b"}, Port: 80, Weight: 1}}},
		{ReasonNoEndpoint, toCart()},
	} {
		s.streaming(nil, c.backends...)
		before := s.counted("isthmus_gateway_streams_refused_total", c.reason)
		s.until("it is refused for "+string(c.reason), func() bool { // the configuration reaches the port a moment later
			err := s.knock(5432)
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %v, want a reset", c.reason, err)
			}
			return s.counted("isthmus_gateway_streams_refused_total", c.reason) > before
		})
	}
	s.nothingLeft()
}

// TestPoliciesJudgeTCP: those of the gateway see the port of the Gateway, those of the service its own, and both the address.
func TestPoliciesJudgeTCP(t *testing.T) {
	policy := func(name string, port uint16, from string) []*mesh.Policy {
		m := mesh.PolicyMatch{DestinationPorts: []uint16{port}, SourceIPs: []netip.Prefix{netip.MustParsePrefix(from)}}
		return []*mesh.Policy{{Namespace: "edge", Name: name, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{m}}}}}}}
	}
	const here, elsewhere = "127.0.0.0/8", "192.0.2.0/24"
	s := newScene(t, nil)
	s.add(s.plainPod(1))
	for name, c := range map[string]struct {
		gateway, service []*mesh.Policy
		want             bool
	}{
		"allowed by both":                 {policy("g", 5432, here), policy("s", 80, here), true},
		"not at the gateway, by address":  {policy("g", 5432, elsewhere), nil, false},
		"not at the gateway, by its port": {policy("g", 80, here), nil, false},
		"not at the service, by address":  {nil, policy("s", 80, elsewhere), false},
		"not at the service, by its port": {policy("g", 5432, here), policy("s", 5432, here), false},
	} {
		s.streaming(func(g *mesh.Gateway) {
			g.Policies = c.gateway
			if c.service != nil {
				g.ServicePolicies = []mesh.ServicePolicies{{Service: cartKey, Policies: c.service}}
			}
		}, toCart()...)
		err := s.knock(5432)
		if (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTCPEndsWhenNothingPasses, and when a policy turns against it.
func TestTCPEndsWhenNothingPasses(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.StreamIdle = 100 * time.Millisecond })
	s.streaming(nil, toCart()...)
	s.add(s.plainPod(1))
	nc := s.dialPort(5432)
	if _, err := io.Copy(io.Discard, nc); err == nil {
		t.Error("an idle connection ended in order")
	}
	s.until("it is logged", func() bool { return len(s.logs.access()) == 1 })
	if line := s.logs.access()[0]; line["reason"] != string(ReasonIdle) {
		t.Errorf("access log: %v", line)
	}
	s.nothingLeft()
}

// TestPortChangesBetweenProtocols: one port number is for TCP, TLS and HTTP in turn, and a connection that runs goes on.
func TestPortChangesBetweenProtocols(t *testing.T) {
	s := newScene(t, nil)
	s.streaming(nil, toCart()...)
	s.add(s.plainPod(1))
	nc := s.dialPort(5432)
	if _, err := io.ReadFull(nc, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []mesh.ListenerProtocol{mesh.ListenerTLS, mesh.ListenerHTTP, mesh.ListenerTCP} {
		s.configure(func(g *mesh.Gateway) {
			g.Listeners = append(g.Listeners, mesh.Listener{Name: "l", Port: 5432, Bind: 5432, Protocol: p, Stream: &mesh.StreamRoute{Namespace: "shop", Name: "db", Backends: toCart()}})
		})
		want := map[mesh.ListenerProtocol]string{mesh.ListenerTLS: "", mesh.ListenerHTTP: "HTTP/1.1 404", mesh.ListenerTCP: "pod 1\n"}[p]
		s.until("the port is another one", func() bool {
			conn, err := net.Dial("tcp", s.address(5432))
			if err != nil {
				return false
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			_ = conn.(*net.TCPConn).CloseWrite()
			said, _ := io.ReadAll(conn)
			return want == "" && len(said) == 0 || want != "" && strings.HasPrefix(string(said), want)
		})
	}
	if _, err := io.WriteString(nc, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
		t.Errorf("a connection that ran was cut: %v", err)
	}
}

// TestIdleLooks: what passes keeps a connection, also if it is little.
func TestIdleLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stats relay.Stats
		began, ended := time.Now(), time.Time{}
		defer watchIdle(time.Hour, &stats, func() { ended = time.Now() })()
		for range 10 {
			time.Sleep(50 * time.Minute)
			stats.Sent.Add(1)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if after := ended.Sub(began); after < 500*time.Minute+time.Hour || after > 500*time.Minute+2*time.Hour {
			t.Errorf("ended after %s", after)
		}
	})
}
