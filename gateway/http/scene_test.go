// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// library has net/http read all requests: what plain requests have to do with it, all others must, too.
var library = flag.Bool("library", false, "have net/http read all requests")

// patience is for things that take milliseconds.
const patience = 20 * time.Second

// scene is a port, a directory, and backends, over a network.
type scene struct {
	t       *testing.T
	network network
	live    *directory.Live
	server  *Server
	port    *Port
	address string
	metrics *prometheus.Registry
	logs    *lines
	drain   func()
}

type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
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

// count is how many lines have a text.
func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

// newLog writes all there is.
func newLog(to *lines) slog.Handler {
	return slog.NewJSONHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug})
}

// newScene makes one over the loopback.
func newScene(t *testing.T, limits Limits, listeners ...mesh.Listener) *scene {
	t.Helper()
	return newSceneIn(t, loopback{}, limits, listeners...)
}

func newSceneIn(t *testing.T, in network, limits Limits, listeners ...mesh.Listener) *scene {
	t.Helper()
	if limits.LeaveTime == 0 {
		limits.LeaveTime = time.Millisecond // clients that are idle are not waited for
	}
	s := &scene{t: t, network: in, live: directory.NewLive(), metrics: prometheus.NewRegistry(), logs: &lines{}}
	log := logr.FromSlogHandler(newLog(s.logs))
	s.server = NewServer(Options{
		Log: log, Access: log, Directory: s.live, Network: func() string { return "east" }, Limits: limits, Metrics: s.metrics, Carrier: NewTransports(limits, in.dial),
	})
	s.server.library = *library
	s.port = s.server.NewPort(listeners)
	socket, err := in.listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.address = socket.Addr().String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.port.Serve(socket)
	}()
	s.drain = sync.OnceFunc(func() {
		socket.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.port.Drain(ctx)
		<-served
		s.server.Close()
	})
	t.Cleanup(s.drain)
	return s
}

func key(name string) mesh.ServiceKey {
	return mesh.ServiceKey{Namespace: "n", Hostname: name + ".n.svc.cluster.local"}
}

// to is a backend with the weight 1.
func to(name string) mesh.HTTPBackend {
	return mesh.HTTPBackend{Service: key(name), Port: 80, Weight: 1}
}

// backend starts a server and makes it an endpoint of a service.
func (s *scene) backend(name string, app mesh.AppProtocol, h http.HandlerFunc) *http.Server {
	s.t.Helper()
	socket, err := s.network.listen(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(app != mesh.AppHTTP2)
	protocols.SetUnencryptedHTTP2(app == mesh.AppHTTP2)
	server := &http.Server{Handler: h, Protocols: protocols}
	go server.Serve(socket)
	s.t.Cleanup(func() { server.Close() })
	s.endpoint(name, app, socket.Addr().(*net.TCPAddr).AddrPort())
	return server
}

func (s *scene) endpoint(name string, app mesh.AppProtocol, at netip.AddrPort) {
	uid := fmt.Sprintf("east//Pod/n/%s-%d", name, at.Port())
	s.live.Apply(mesh.Delta{
		Services: map[mesh.ServiceKey]*mesh.Service{key(name): {
			Namespace: "n", Name: name, Hostname: key(name).Hostname, Ports: []mesh.Port{{Service: 80, App: app}},
		}},
		Workloads: map[string]*mesh.Workload{uid: {
			UID: uid, Name: fmt.Sprint(name, "-", at.Port()), Namespace: "n", Addresses: []netip.Addr{at.Addr()}, Network: "east", Capacity: 1,
			Services: map[mesh.ServiceKey][]mesh.Port{key(name): {{Service: 80, Target: at.Port(), App: app}}},
		}},
	})
}

// says answers with a text and what came.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Path", r.URL.RequestURI())
		w.Header().Set("X-Host", r.Host)
		w.Header().Set("X-Proto", r.Proto)
		w.Header()["X-Seen"] = r.Header["X-Seen"]
		w.Header().Set("X-Forwarded-For", r.Header.Get("X-Forwarded-For"))
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s%s", text, body)
	}
}

// client asks the port, whatever the URL's host.
func (s *scene) client() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.network.dial(ctx, network, s.address)
	}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask gives the answer and its body.
func (s *scene) ask(client *http.Client, method, url, body string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	var from io.Reader
	if body != "" {
		from = bytes.NewBufferString(body)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, url, from)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, url, err, s.logs)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, url, err, s.logs)
	}
	return response, string(text)
}

// counted is the sum of a counter's series that have a value among their labels; "" is in all.
func (s *scene) counted(name, label string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			fits := label == ""
			for _, l := range m.GetLabel() {
				fits = fits || l.GetValue() == label
			}
			if f.GetName() == name && fits {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func (s *scene) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain until %s\n%s", what, s.logs)
		}
	}
}
