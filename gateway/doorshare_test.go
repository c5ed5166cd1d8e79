// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// secureListeners share port 6443: HTTPS for web.example.com and every other name of example.com, TLS for two names within, of which one is passed on and one ends here.
func (s *scene) secureListeners() (https, streams []mesh.Listener) {
	s.t.Helper()
	web := func(name, hostname string) mesh.Listener {
		return mesh.Listener{
			Name: name, Port: 6443, Bind: 6443, Protocol: mesh.ListenerHTTPS, Hostname: hostname, Certificates: []mesh.Certificate{certificateFor(s.t, hostname)},
			Routes: []*mesh.HTTPRoute{{Namespace: "shop", Name: name, Rules: []mesh.HTTPRule{{
				Matches: []mesh.HTTPMatch{{Path: "/"}}, Backends: []mesh.HTTPBackend{{Service: webKey, Port: 80, Weight: 1}},
			}}}},
		}
	}
	https = []mesh.Listener{web("web", "web.example.com"), web("wide", "*.example.com")}
	streams = []mesh.Listener{
		{Name: "past", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLS, Hostname: "there.example.com", TLSRoutes: []*mesh.TLSRoute{cartRoute()}},
		{Name: "ends", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLSTerminate, Hostname: "here.example.com", Certificates: []mesh.Certificate{certificateFor(s.t, "here.example.com")}, TLSRoutes: []*mesh.TLSRoute{cartRoute()}},
	}
	return https, streams
}

var webKey = mesh.ServiceKey{Namespace: "shop", Hostname: "web.shop.svc.cluster.local"}

// sharing configures the gateway with listeners beside the one for HBONE.
func (s *scene) sharing(listeners ...mesh.Listener) {
	s.t.Helper()
	s.configure(func(g *mesh.Gateway) { g.Listeners = append(g.Listeners, listeners...) })
}

// addWeb makes a service for HTTP that answers with the host that it is asked for.
func (s *scene) addWeb() {
	s.t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })}
	go backend.Serve(socket)
	s.t.Cleanup(func() { backend.Close() })
	at := socket.Addr().(*net.TCPAddr).AddrPort()
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{webKey: {
		Namespace: "shop", Name: "web", Hostname: webKey.Hostname, Ports: []mesh.Port{{Service: 80, Target: at.Port()}},
	}}})
	s.add(podWorkload(9, func(w *mesh.Workload) {
		w.Addresses, w.Tunnel, w.Services = []netip.Addr{at.Addr()}, mesh.TunnelNone, map[mesh.ServiceKey][]mesh.Port{webKey: {{Service: 80, Target: at.Port()}}}
	}))
}

// browse asks the port for a host, on a connection that asks for a name.
func (s *scene) browse(name, host string, h2 bool) string {
	s.t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{ServerName: name, InsecureSkipVerify: true}, ForceAttemptHTTP2: h2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.address(6443))
		},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://test/", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	response, err := (&http.Client{Timeout: patience, Transport: transport}).Do(r)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	if reason := response.Header.Get("x-isthmus-reason"); reason != "" {
		return fmt.Sprintf("%d %s", response.StatusCode, reason)
	}
	body, _ := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, body)
}

// proves says for which name the other side of a connection has a certificate; empty: it has none.
func (s *scene) proves(name string) string {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.address(6443), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer conn.Close()
	return strings.Join(conn.ConnectionState().PeerCertificates[0].DNSNames, ",")
}

// TestHTTPSAndTLSShareAPort: of all listeners of the port, the one whose hostname fits best takes a connection, and requests for the host of another one do not get in by it.
func TestHTTPSAndTLSShareAPort(t *testing.T) {
	s := newScene(t, nil)
	https, streams := s.secureListeners()
	s.sharing(append(streams, https...)...)
	s.addWeb()
	s.add(s.tlsPod(1))
	for _, h2 := range []bool{false, true} {
		for _, c := range []struct{ name, host, want string }{
			{"web.example.com", "web.example.com", "200 web.example.com"},
			{"a.example.com", "a.example.com", "200 a.example.com"},
			{"a.example.com", "b.example.com", "200 b.example.com"},
			{"a.example.com", "there.example.com", "421 misdirected"},
			{"a.example.com", "here.example.com", "421 misdirected"},
			{"a.example.com", "web.example.com", "421 misdirected"},
		} {
			if got := s.browse(c.name, c.host, h2); got != c.want {
				t.Errorf("HTTP/2 %v, %s by a connection for %s: %q, want %q", h2, c.host, c.name, got, c.want)
			}
		}
	}
	conn, said, err := s.dialTLS("there.example.com")
	if err != nil || said != "pod 1 for there.example.com" {
		t.Errorf("passed on: %q, %v", said, err)
	}
	conn.Close()
	for name, want := range map[string]string{"here.example.com": "here.example.com", "web.example.com": "web.example.com", "a.example.com": "*.example.com"} {
		if got := s.proves(name); got != want {
			t.Errorf("%s is proved by a certificate for %q, want %q", name, got, want)
		}
	}
	if _, _, err := s.dialTLS("example.org"); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a name of no listener: %v", err)
	}
	s.nothingLeft()
}

// TestPortIsSharedInPassing: listeners for TLS come to a port that HTTPS has, and go, and so the other way round, while neither requests nor connections notice.
func TestPortIsSharedInPassing(t *testing.T) {
	s := newScene(t, nil)
	https, streams := s.secureListeners()
	s.addWeb()
	s.add(s.tlsPod(1))
	s.sharing(https...)
	at := s.address(6443)
	if got := s.browse("web.example.com", "web.example.com", false); got != "200 web.example.com" {
		t.Fatal(got)
	}
	s.sharing(append(streams, https...)...)
	var through *tls.Conn
	s.until("a connection is passed on", func() (ok bool) { // the port's configuration follows a moment later
		conn, said, err := s.dialTLS("there.example.com")
		through = conn
		return err == nil && said == "pod 1 for there.example.com"
	})
	s.sharing(streams...)
	s.until("nobody proves the name any more", func() bool { return s.proves("web.example.com") == "" })
	s.sharing(append(https, streams...)...)
	s.until("requests are served again", func() bool { return s.browse("web.example.com", "web.example.com", true) == "200 web.example.com" })
	s.sharing(https...)
	s.until("what was passed on belongs to the wider listener", func() bool {
		return s.browse("there.example.com", "there.example.com", true) == "200 there.example.com"
	})
	if _, err := io.WriteString(through, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(through, make([]byte, 1)); err != nil {
		t.Errorf("a connection that ran was cut: %v", err)
	}
	if s.address(6443) != at {
		t.Error("the port was bound anew")
	}
}

// TestKeptRequestsDoNotNotice: a kept connection for HTTPS is the same one after listeners for TLS have come to its port, and gone.
func TestKeptRequestsDoNotNotice(t *testing.T) {
	s := newScene(t, nil)
	https, streams := s.secureListeners()
	s.addWeb()
	s.add(s.plainPod(1))
	s.sharing(https...)
	nc, err := tls.Dial("tcp", s.address(6443), &tls.Config{ServerName: "web.example.com", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, listeners := range [][]mesh.Listener{https, append(streams, https...), https, append(https, streams...)} {
		s.sharing(listeners...)
		s.until("the port is as wanted", func() bool {
			return (s.proves("here.example.com") == "here.example.com") == (len(listeners) == 4)
		})
		if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: web.example.com\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4096)
		if n, err := nc.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200 ") || strings.Contains(string(answer[:n]), "Connection: close") {
			t.Fatalf("%d listeners: %q, %v", len(listeners), answer[:n], err)
		}
	}
}
