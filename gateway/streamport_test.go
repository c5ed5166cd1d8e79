// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// tlsPod makes pod n, out of the mesh, with a TLS server that says who it is and which name was asked for, and then echoes.
func (s *scene) tlsPod(n int) *mesh.Workload {
	s.t.Helper()
	own := httptest.NewTLSServer(nil) // for its certificate
	s.t.Cleanup(own.Close)
	w := s.tcp(n, func(nc *net.TCPConn) {
		secure := tls.Server(nc, &tls.Config{Certificates: own.TLS.Certificates})
		if secure.HandshakeContext(s.t.Context()) != nil {
			return
		}
		fmt.Fprintf(secure, "pod %d for %s\n", n, secure.ConnectionState().ServerName)
		_, _ = io.Copy(secure, secure)
		secure.CloseWrite()
	})
	return s.outOfMesh(w)
}

// passing is a gateway with a port for TLS, 6443, and routes.
func (s *scene) passing(routes ...*mesh.TLSRoute) {
	s.t.Helper()
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = append(g.Listeners, mesh.Listener{Name: "tls", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLS, TLSRoutes: routes})
	})
}

func cartRoute(hostnames ...string) *mesh.TLSRoute {
	return &mesh.TLSRoute{Namespace: "shop", Name: "cart", Hostnames: hostnames, Backends: []mesh.StreamBackend{{Service: cartKey, Port: 80, Weight: 1}}}
}

// dialTLS connects by a name, and gives the first line that the other side says.
func (s *scene) dialTLS(name string) (*tls.Conn, string, error) {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.address(6443))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(nc, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		return nil, "", err
	}
	var line []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(line), "\n"); line = append(line, b...) {
		if _, err := io.ReadFull(secure, b); err != nil {
			return nil, "", err
		}
	}
	return secure, strings.TrimSpace(string(line)), nil
}

func TestTLSPassesByName(t *testing.T) {
	s := newScene(t, nil)
	s.passing(cartRoute("api.example.com", "*.wild.example.com"))
	s.add(podWorkload(1, func(w *mesh.Workload) { w.Tunnel = mesh.TunnelNone }), s.tlsPod(2)) // one that refuses
	for i, name := range []string{"api.example.com", "a.wild.example.com", "API.example.com"} {
		conn, said, err := s.dialTLS(name)
		if err != nil || said != "pod 2 for "+name {
			t.Fatalf("%s: %q, %v", name, said, err)
		}
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if echoed, err := io.ReadAll(conn); string(echoed) != "hello" || err != nil {
			t.Errorf("%s: %q came back, %v", name, echoed, err)
		}
		conn.Close()
		s.until("it is logged", func() bool { return len(s.logs.access()) == i+1 })
	}
	if line := s.logs.access()[0]; line["tunnel"] != "tls" || line["service"] != "api.example.com" || line["workload"] != "shop/cart-2" || line["peer"] != "" || line["reason"] != "-" {
		t.Errorf("access log: %v", line)
	}
	s.until("nothing is left", func() bool {
		return s.server.connections.used() == 0 && s.server.streamQuota.used() == 0 && s.server.services.used() == 0 && s.server.strangers.Silent() == 0
	})
}

func TestTLSThatIsNotPassed(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.HandshakeTimeout = 300 * time.Millisecond })
	s.passing(cartRoute("api.example.com"),
		&mesh.TLSRoute{Namespace: "shop", Name: "none", Hostnames: []string{"none.example.com"}},
		&mesh.TLSRoute{Namespace: "shop", Name: "broken", Hostnames: []string{"broken.example.com"}, Backends: []mesh.StreamBackend{{Weight: 1, Problem: "there is no Service"}}})
	for name, reason := range map[string]Reason{
		"other.example.com": ReasonNoRoute, "": ReasonNoRoute, "none.example.com": ReasonNoBackend, "broken.example.com": ReasonNoBackend, "api.example.com": ReasonNoEndpoint,
	} {
		before := s.counted("isthmus_gateway_streams_refused_total", reason)
		if _, _, err := s.dialTLS(name); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: %v, want a connection that ends", name, err)
		}
		s.until("it is counted", func() bool { return s.counted("isthmus_gateway_streams_refused_total", reason) == before+1 })
	}
	for _, say := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01"} { // the second one goes on with nothing
		nc, err := net.Dial("tcp", s.address(6443))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(nc, say)
		if answer, _ := io.ReadAll(nc); len(answer) > 0 {
			t.Errorf("%q is answered with %q", say, answer)
		}
	}
	s.until("both are counted", func() bool { return s.counted("isthmus_gateway_streams_refused_total", ReasonNotTLS) == 2 })
	if dialled := s.dialled(); len(dialled) > 0 {
		t.Errorf("endpoints were dialled: %v", dialled)
	}
}

// TestTLSClientThatLeaves: the search for an endpoint ends when the client does, long before its own time is up.
func TestTLSClientThatLeaves(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.ConnectTimeout = 100 * patience })
	s.passing(cartRoute("api.example.com"))
	hole := s.tlsPod(1)
	s.mu.Lock()
	s.black[netip.AddrPortFrom(hole.Addresses[0], 8080)] = true
	s.mu.Unlock()
	s.add(hole)
	nc, err := net.Dial("tcp", s.address(6443))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	secure := tls.Client(nc, &tls.Config{ServerName: "api.example.com", InsecureSkipVerify: true})
	greeted := make(chan struct{})
	go func() {
		_ = secure.Handshake()
		close(greeted)
	}()
	s.until("an endpoint is dialled", func() bool { return len(s.dialled()) > 0 })
	nc.Close()
	<-greeted
	s.until("it is counted", func() bool { return s.counted("isthmus_gateway_streams_refused_total", ReasonClientGone) == 1 })
}

// TestTLSEarlyWordsArrive: what a client says while an endpoint is looked for comes behind its greeting.
func TestTLSEarlyWordsArrive(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	ctx, stop := whileThere(t.Context(), relay.AsConn(here))
	if _, err := there.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if said := stop(); string(said) != "more" || ctx.Err() == nil {
		t.Errorf("said %q, %v", said, ctx.Err())
	}
	ctx, stop = whileThere(t.Context(), relay.AsConn(here))
	there.Close()
	<-ctx.Done()
	if said := stop(); len(said) != 0 {
		t.Errorf("said %q at its end", said)
	}
}

// TestPoliciesJudgeTLS: a client without an identity is let in by where it comes from, or not at all, and loses what it has when that changes.
func TestPoliciesJudgeTLS(t *testing.T) {
	s := newScene(t, nil)
	s.passing(cartRoute())
	s.add(s.tlsPod(1))
	conn, _, err := s.dialTLS("api.example.com")
	if err != nil {
		t.Fatal(err)
	}
	only := func(m mesh.PolicyMatch) func(g *mesh.Gateway) {
		return func(g *mesh.Gateway) {
			g.Listeners = append(g.Listeners, mesh.Listener{Name: "tls", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLS, TLSRoutes: []*mesh.TLSRoute{cartRoute()}})
			g.Policies = []*mesh.Policy{{Namespace: "edge", Name: "p", Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{m}}}}}}}
		}
	}
	loopback := mesh.PolicyMatch{SourceIPs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	s.configure(only(loopback))
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Errorf("a connection that is still allowed: %v", err)
	}
	s.configure(only(mesh.PolicyMatch{SourceIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}))
	if _, err := io.Copy(io.Discard, conn); err == nil {
		t.Error("a connection that is not allowed any more ended in order")
	}
	if _, _, err := s.dialTLS("api.example.com"); err == nil {
		t.Error("a connection that is not allowed was passed")
	}
	if n := s.counted("isthmus_gateway_streams_refused_total", ReasonDenied); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
}

// TestTLSPortsFollowTheConfiguration: routes change under a port that stays, and a port that goes lets its connections end.
func TestTLSPortsFollowTheConfiguration(t *testing.T) {
	s := newScene(t, nil)
	s.passing(cartRoute("old.example.com"))
	s.add(s.tlsPod(1))
	conn, _, err := s.dialTLS("old.example.com")
	if err != nil {
		t.Fatal(err)
	}
	address := s.address(6443)
	s.passing(cartRoute("new.example.com"))
	s.until("the new name is served", func() bool {
		conn, _, err := s.dialTLS("new.example.com")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if _, _, err := s.dialTLS("old.example.com"); err == nil {
		t.Error("the old name is still served")
	}
	s.configure(nil)
	s.until("the port is closed", func() bool {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("a connection that ran was cut: %v", err)
	}
	s.stop()
	select {
	case <-s.ended:
		t.Error("the gateway did not wait for it")
	case <-time.After(50 * time.Millisecond):
	}
	conn.Close()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Error("the gateway waits for nobody")
	}
}
