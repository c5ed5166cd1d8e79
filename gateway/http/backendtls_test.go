// SPDX-License-Identifier: Apache-2.0

package http

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// secured is a backend that speaks TLS.
type secured struct {
	connections atomic.Int64
	server      *http.Server
}

// secureBackend starts a server that proves itself by a certificate, and makes it an endpoint of a service. It answers with the name that it was asked for, its
// version of HTTP, and how many certificates its client shows.
func (s *scene) secureBackend(name string, app mesh.AppProtocol, proves mesh.Certificate, http2 bool) *secured {
	s.t.Helper()
	pair, err := tls.X509KeyPair([]byte(proves.Chain), []byte(proves.Key))
	if err != nil {
		s.t.Fatal(err)
	}
	socket, err := new(net.ListenConfig).Listen(s.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	out := &secured{}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	out.server = &http.Server{
		Protocols: protocols, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert},
		ErrorLog: quietLog(s.server.o.Log),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				out.connections.Add(1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s HTTP/%d %d", r.TLS.ServerName, r.ProtoMajor, len(r.TLS.PeerCertificates))
		}),
	}
	go func() { _ = out.server.ServeTLS(socket, "", "") }() // ends with Close
	s.t.Cleanup(func() { out.server.Close() })
	s.endpoint(name, app, socket.Addr().(*net.TCPAddr).AddrPort())
	return out
}

// secure has backends spoken to in TLS.
func (s *scene) secure(proof *mesh.Certificate, backends ...mesh.BackendTLS) {
	s.t.Helper()
	next, gone, _ := s.server.backends.Load().Next(backends, proof)
	s.server.SetBackends(next, gone)
}

// inTLS says how a service is spoken to.
func inTLS(name, serverName string, ca mesh.Certificate) mesh.BackendTLS {
	return mesh.BackendTLS{Service: key(name), Port: 80, ServerName: serverName, CAs: ca.Chain}
}

// byPath sends /name to the service of that name.
func byPath(names ...string) mesh.Listener {
	var rules []mesh.HTTPRule
	for _, n := range names {
		rules = append(rules, with(rule(n, prefix("/"+n)), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to(n)} }))
	}
	return listener("web", "", route("r", nil, rules...))
}

func TestBackendsInTLS(t *testing.T) {
	s := newScene(t, Limits{}, byPath("plain", "one", "two", "large"))
	cert, other := certificate(t, "one.example.com", "two.example.com"), certificate(t, "one.example.com")
	one := s.secureBackend("one", mesh.AppUnknown, cert, false)
	two := s.secureBackend("two", mesh.AppHTTP2, cert, true)
	s.backend("plain", mesh.AppUnknown, says("plain"))
	proof := certificate(t, "gateway")
	client := s.client()
	get := func(path string) string {
		response, body := s.ask(client, http.MethodGet, "http://x"+path, "")
		if response.StatusCode != http.StatusOK {
			return fmt.Sprint(response.StatusCode, " ", response.Header.Get(headerReason))
		}
		return body
	}
	expect := func(path, want string) {
		t.Helper()
		if got := get(path); got != want {
			t.Errorf("%s: %q, want %q\n%s", path, got, want, s.logs)
		}
	}
	s.secure(nil, inTLS("one", "one.example.com", cert), inTLS("two", "two.example.com", cert))
	for range 3 {
		expect("/one", "one.example.com HTTP/1 0")
		expect("/two", "two.example.com HTTP/2 0")
		expect("/plain", "plain")
	}
	// What the library carries, too.
	if _, body := s.ask(client, http.MethodPost, "http://x/one", "hello", "Expect", "100-continue"); body != "one.example.com HTTP/1 0" {
		t.Errorf("a request that expects: %q", body)
	}
	if n, m := one.connections.Load(), two.connections.Load(); n != 2 || m != 1 {
		t.Errorf("%d and %d connections, want 2 (of the two ways) and 1: they are not used again", n, m)
	}

	// Who is no longer taken for what it should be is not asked, not by what is kept either; the others' connections stay.
	s.secure(nil, inTLS("one", "one.example.com", other), inTLS("two", "two.example.com", cert))
	expect("/one", "502 backend_tls_failed")
	expect("/one", "502 backend_tls_failed")
	expect("/two", "two.example.com HTTP/2 0")
	if n := two.connections.Load(); n != 1 {
		t.Errorf("%d connections of what did not change", n)
	}
	if !strings.Contains(s.logs.String(), "certificate signed by unknown authority") || s.counted("isthmus_gateway_http_endpoint_tls_failures_total", "") < 2 {
		t.Errorf("it is not told, or not counted:\n%s", s.logs)
	}
	if s.counted("isthmus_gateway_http_endpoint_connect_failures_total", "") != 0 || s.server.outliers.out(portOf{service: key("a"), port: 80}) != nil {
		t.Error("the endpoint is left out, also for those who expect something else of it")
	}
	s.secure(nil, mesh.BackendTLS{Service: key("one"), Port: 80, Problem: "there is no ConfigMap"}, inTLS("two", "two.example.com", cert))
	expect("/one", "500 backend_tls_failed")
	s.secure(nil, inTLS("one", "two.example.com", cert), inTLS("two", "elsewhere.example.com", cert))
	expect("/one", "two.example.com HTTP/1 0")
	expect("/two", "502 backend_tls_failed")
	s.secure(&proof, inTLS("one", "one.example.com", cert), inTLS("two", "two.example.com", cert))
	expect("/one", "one.example.com HTTP/1 1")
	expect("/two", "two.example.com HTTP/2 1")
	// In the clear to what speaks TLS: no connection of before is used.
	s.secure(nil)
	if got := get("/one"); !strings.HasPrefix(got, "400") && !strings.HasPrefix(got, "502") {
		t.Errorf("in the clear: %q", got)
	}
}

// An endpoint that does not prove what it should costs one request a second try, and is left out then: for who speaks to it by these settings.
func TestBackendsThatFailTheirHandshake(t *testing.T) {
	s := newScene(t, Limits{}, byPath("one"))
	now := time.Now()
	s.server.outliers.now = func() time.Time { return now }
	cert, other := certificate(t, "one.example.com"), certificate(t, "one.example.com")
	good, wrong := s.secureBackend("one", mesh.AppUnknown, cert, false), s.secureBackend("one", mesh.AppUnknown, other, false)
	client := s.client()
	ask := func() {
		t.Helper()
		for range 20 { // as many as it takes to come across both
			if response, body := s.ask(client, http.MethodGet, "http://x/one", ""); response.StatusCode != http.StatusOK {
				t.Fatalf("%d %q\n%s", response.StatusCode, body, s.logs)
			}
		}
	}
	s.secure(nil, inTLS("one", "one.example.com", cert))
	ask()
	if n := wrong.connections.Load(); n != 1 {
		t.Errorf("%d connections to who proved the wrong thing, want 1", n)
	}
	now = now.Add(1100 * time.Millisecond)
	ask()
	if n := wrong.connections.Load(); n != 2 {
		t.Errorf("%d connections to who proved the wrong thing, want one more after a second", n)
	}
	both := cert
	both.Chain += other.Chain
	before := good.connections.Load()
	s.secure(nil, inTLS("one", "one.example.com", both))
	ask()
	if n, m := wrong.connections.Load(), good.connections.Load(); n != 3 || m != before+1 {
		t.Errorf("by other settings: %d and %d connections", n, m)
	}
}

// A request that runs when other CAs come goes on, and its connection is not kept.
func TestBackendTLSChangesUnderRequests(t *testing.T) {
	s := newScene(t, Limits{}, byPath("one"))
	cert := certificate(t, "one.example.com")
	both := cert
	both.Chain += certificate(t, "one.example.com").Chain
	one := s.secureBackend("one", mesh.AppUnknown, cert, false)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	one.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/one/slow" {
			w.(http.Flusher).Flush()
			close(arrived)
			<-goOn
		}
		fmt.Fprint(w, "done")
	})
	s.secure(nil, inTLS("one", "one.example.com", cert))
	client := s.client()
	slow := make(chan string)
	go func() {
		response, err := client.Get("http://x/one/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		defer response.Body.Close()
		body := make([]byte, 8)
		n, _ := response.Body.Read(body)
		slow <- string(body[:n])
	}()
	<-arrived
	s.secure(nil, inTLS("one", "one.example.com", both))
	if _, body := s.ask(client, http.MethodGet, "http://x/one", ""); body != "done" {
		t.Errorf("by the new ones: %q", body)
	}
	close(goOn)
	if got := <-slow; got != "done" {
		t.Errorf("what ran: %q", got)
	}
	s.until("the old connection is given up", func() bool {
		i := &s.server.o.Carrier.(*transports).direct.idle
		i.mu.Lock()
		defer i.mu.Unlock()
		return len(i.of) == 1
	})
	if n := one.connections.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// Clients prove what their listener wants now, whatever listener their connection was made for and whatever was wanted then.
func TestClientsProveThemselves(t *testing.T) {
	good, late := certificate(t, "client"), certificate(t, "client")
	cert := certificate(t, "one.example.com", "two.example.com", "any.example.com")
	listeners := func(cas string) []mesh.Listener {
		var out []mesh.Listener
		for _, name := range []string{"one", "two", "any"} {
			l := listener(name, name+".example.com", route(name, nil, with(rule(name, prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} })))
			l.Port, l.Protocol, l.Certificates = 443, mesh.ListenerHTTPS, []mesh.Certificate{cert}
			out = append(out, l)
		}
		out[0].Clients = &mesh.ClientValidation{CAs: cas}
		out[2].Clients = &mesh.ClientValidation{CAs: cas, Insecure: true}
		return out
	}
	s := newScene(t, Limits{}, listeners(good.Chain)...)
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "client-cert") {
				w.Header().Add("X-Came", name)
			}
		}
	})
	dial := func(name string, shows *mesh.Certificate) *http.Client {
		config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: x509.NewCertPool(), ClientSessionCache: tls.NewLRUClientSessionCache(4), NextProtos: []string{"http/1.1"}}
		config.RootCAs.AppendCertsFromPEM([]byte(cert.Chain))
		if shows != nil {
			pair, err := tls.X509KeyPair([]byte(shows.Chain), []byte(shows.Key))
			if err != nil {
				t.Fatal(err)
			}
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		client := s.client()
		transport := client.Transport.(*http.Transport)
		transport.TLSClientConfig = config
		return client
	}
	ask := func(client *http.Client, host string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-Client-Cert", "Subject=\"root\"")
		r.Header.Set("Client-Cert", ":AAAA:")
		response, err := client.Do(r)
		if err != nil {
			return "refused"
		}
		defer response.Body.Close()
		if came := response.Header["X-Came"]; came != nil {
			t.Errorf("the backend believes %v", came)
		}
		return fmt.Sprint(response.StatusCode, response.Header.Get(headerReason))
	}
	for _, tc := range []struct {
		is         string
		name, host string
		shows      *mesh.Certificate
		want       string
	}{
		{"a good one", "one.example.com", "one.example.com", &good, "200"},
		{"none", "one.example.com", "one.example.com", nil, "refused"},
		{"one of somebody else", "one.example.com", "one.example.com", &late, "refused"},
		{"none where none is wanted", "two.example.com", "two.example.com", nil, "200"},
		{"none by way of where none is wanted", "two.example.com", "one.example.com", nil, "421misdirected"},
		{"none where it does not matter", "any.example.com", "any.example.com", nil, "200"},
		{"one of somebody else where it does not matter", "any.example.com", "any.example.com", &late, "200"},
	} {
		if got := ask(dial(tc.name, tc.shows), tc.host); got != tc.want {
			t.Errorf("%s: %s, want %s\n%s", tc.is, got, tc.want, s.logs)
		}
	}
	// Other CAs: who proved itself before is asked again, on the connection that it has; a new one is made by the client.
	client, newer := dial("one.example.com", &good), dial("one.example.com", &late)
	if got := ask(client, "one.example.com"); got != "200" {
		t.Fatal(got)
	}
	s.port.Configure(listeners(good.Chain + late.Chain))
	if got, too := ask(client, "one.example.com"), ask(newer, "one.example.com"); got != "200" || too != "200" {
		t.Errorf("with both: %s, %s", got, too)
	}
	s.port.Configure(listeners(late.Chain))
	if got := ask(client, "one.example.com"); got != "421client_certificate" {
		t.Errorf("with another CA, on the connection of before: %s", got)
	}
	if got := ask(client, "one.example.com"); got != "refused" {
		t.Errorf("with another CA, on a new connection: %s", got)
	}
	if got := ask(newer, "one.example.com"); got != "200" {
		t.Errorf("who is still known: %s", got)
	}
	s.until("it is counted", func() bool { return s.counted("isthmus_gateway_http_requests_total", "client_certificate") == 1 }) // after it is answered
}
