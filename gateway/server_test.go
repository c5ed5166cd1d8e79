// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// echoPod answers every byte with itself.
func (s *scene) echoPod(n int) *mesh.Workload {
	return s.tcp(n, func(nc *net.TCPConn) { _, _ = io.Copy(nc, nc) })
}

func (s *scene) open(outer *hbone.Conn) *hbone.Stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	stream, _, err := outer.Open(ctx, authority, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = stream.SetDeadline(time.Now().Add(patience))
	s.t.Cleanup(func() { stream.Close() })
	return stream
}

// echo sends a word and waits for it to come back.
func echo(stream *hbone.Stream, say string) error {
	if _, err := io.WriteString(stream, say); err != nil {
		return err
	}
	_, err := io.ReadFull(stream, make([]byte, len(say)))
	return err
}

func (s *scene) ready() (int, string) { return s.health("/healthz/ready") }

func (s *scene) health(path string) (int, string) {
	w := httptest.NewRecorder()
	s.server.Readiness().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadiness(t *testing.T) {
	synced := make(chan struct{})
	s := newScene(t, func(o *Options) { o.Synced = synced })
	if code, body := s.ready(); code != 500 || !strings.Contains(body, "configuration") || !strings.Contains(body, "discovery") {
		t.Errorf("%d %s", code, body)
	}
	w := httptest.NewRecorder()
	s.server.Readiness().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz/live", nil))
	if w.Code != 200 {
		t.Errorf("live: %d", w.Code)
	}
	if code, _ := s.health("/healthz/ready?settling"); code != 500 {
		t.Error("what is not configured takes no streams")
	}
	s.configure(nil)
	close(synced)
	s.until("it is ready", func() bool { code, _ := s.ready(); return code == 200 })
	s.stop()
	s.until("it drains", func() bool { code, body := s.ready(); return code == 500 && strings.Contains(body, "draining") })
}

func TestNotReadyWithoutAValidCertificate(t *testing.T) {
	ca := newIssuer(t)
	ca.life = 3 * time.Second
	source := mtls.NewSource(ca, mtls.SourceOptions{})
	t.Cleanup(source.Close)
	s := newScene(t, func(o *Options) { o.Source = source })
	s.configure(nil)
	s.until("it is ready", func() bool { code, _ := s.ready(); return code == 200 })
	ca.down.Store(true)
	s.until("its certificate has ended", func() bool { code, body := s.ready(); return code == 500 && strings.Contains(body, "certificate") })
	ca.down.Store(false)
	s.until("it has a new one", func() bool { code, _ := s.ready(); return code == 200 })
}

func TestDrainLetsRunningStreamsEnd(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.echoPod(1))
	outer := s.outer(15008, clientID)
	long := s.open(outer)
	if err := echo(long, "before"); err != nil {
		t.Fatal(err)
	}
	idle := s.outer(15008, clientID)
	s.stop()
	<-idle.Done() // nothing runs on it
	s.until("the peer knows of the drain", func() bool { return !outer.Usable() })
	if err := echo(long, "during"); err != nil {
		t.Errorf("a running stream was hurt: %v", err)
	}
	if nc, err := net.Dial("tcp", s.address(15008)); err == nil {
		nc.Close()
		t.Error("new connections are still accepted")
	}
	if err := long.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(long); err != nil || len(rest) != 0 {
		t.Errorf("its end: %q, %v", rest, err)
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("Run goes on after the last stream ended")
	}
	if line := s.logs.access()[0]; line["reason"] != "-" {
		t.Errorf("logged as %v", line["reason"])
	}
}

func TestDrainCutsWhatIsLeftInTheEnd(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Drain = 100 * time.Millisecond })
	s.configure(nil)
	s.add(s.echoPod(1))
	long := s.open(s.outer(15008, clientID))
	if err := echo(long, "before"); err != nil {
		t.Fatal(err)
	}
	s.stop()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("Run waits for ever")
	}
	if line := s.logs.access()[0]; line["reason"] != string(ReasonDrained) {
		t.Errorf("logged as %v", line["reason"])
	}
	if _, err := io.ReadAll(long); err == nil {
		t.Error("a cut looked like an ordinary end")
	}
}

func TestSettleGoesOnAsBefore(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Settle = 1500 * time.Millisecond })
	s.configure(nil)
	s.add(s.echoPod(1))
	address := s.address(15008)
	s.until("it is ready", func() bool { code, _ := s.ready(); return code == 200 })
	s.stop()
	s.until("readiness says no", func() bool { code, _ := s.ready(); return code == 500 })
	if code, body := s.health("/healthz/ready?settling"); code != 200 {
		t.Errorf("who asks whether streams are taken hears %d %s", code, body)
	}
	s.configure(nil)                           // a change still counts
	conn, err := s.tryOuter(address, clientID) // by somebody who has not heard yet
	if err != nil {
		t.Fatal(err)
	}
	stream := s.open(conn)
	if err := echo(stream, "hello"); err != nil {
		t.Fatal(err)
	}
	s.until("the drain begins", func() bool { return !conn.Usable() })
	if code, body := s.health("/healthz/ready?settling"); code != 500 || !strings.Contains(body, "draining") {
		t.Errorf("who asks whether streams are taken hears %d %s", code, body)
	}
	if err := echo(stream, "hello"); err != nil {
		t.Error(err)
	}
	stream.Close()
	<-s.ended
}

func TestListenersFollowTheConfiguration(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.echoPod(1))
	first := s.outer(15008, clientID)
	long := s.open(first)

	// The port changes: the old one drains, and its stream goes on.
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = []mesh.Listener{{Name: "mesh", Port: 15108, Bind: 15108, Protocol: mesh.ListenerHBONE}}
	})
	if err := echo(s.open(s.outer(15108, clientID)), "new"); err != nil {
		t.Error(err)
	}
	s.until("the old connection is told", func() bool { return !first.Usable() })
	if err := echo(long, "still"); err != nil {
		t.Errorf("a stream of a listener that is gone: %v", err)
	}
	if nc, err := net.Dial("tcp", s.address(15008)); err == nil {
		nc.Close()
		t.Error("the old port still accepts")
	}
	long.Close()
	<-first.Done()

	// A second listener comes; connections of the first are left alone.
	second := s.outer(15108, clientID)
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = []mesh.Listener{
			{Name: "mesh", Port: 15108, Bind: 15108, Protocol: mesh.ListenerHBONE},
			{Name: "more", Port: 443, Bind: 10443, Protocol: mesh.ListenerHBONE},
		}
	})
	if err := echo(s.open(s.outer(10443, clientID)), "more"); err != nil {
		t.Error(err)
	}
	if err := echo(s.open(second), "undisturbed"); err != nil {
		t.Error(err)
	}

	// The configuration vanishes: the last one goes on.
	s.live.Apply(mesh.Delta{Gateways: map[mesh.GatewayKey]*mesh.Gateway{{Namespace: "edge", Name: "west"}: nil}})
	if err := echo(s.open(second), "on"); err != nil {
		t.Error(err)
	}

	// An export is taken back: new streams are refused, running ones go on.
	running := s.open(second)
	s.configure(func(g *mesh.Gateway) {
		g.Listeners[0].Bind, g.Exports = 15108, nil
	})
	if status, reason := s.refusal(second, authority, nil); status != 503 || reason != string(ReasonNotExported) {
		t.Errorf("%d %q", status, reason)
	}
	if err := echo(running, "on"); err != nil {
		t.Error(err)
	}
}

func TestPortThatCannotBeBoundIsTriedAgain(t *testing.T) {
	s := newScene(t, nil)
	s.mu.Lock()
	s.failing[10443] = true
	s.mu.Unlock()
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = append(g.Listeners, mesh.Listener{Name: "taken", Port: 443, Bind: 10443, Protocol: mesh.ListenerHBONE}, mesh.Listener{Name: "odd", Port: 9, Bind: 9, Protocol: 77})
	})
	s.add(s.echoPod(1))
	if err := echo(s.open(s.outer(15008, clientID)), "x"); err != nil {
		t.Errorf("the good listener: %v", err)
	}
	s.until("it says what is wrong", func() bool {
		code, body := s.ready()
		return code == 500 && strings.Contains(body, `"taken"`) && strings.Contains(body, "10443") && strings.Contains(body, `"odd": protocol 77`)
	})
	s.mu.Lock()
	s.failing[10443] = false
	s.mu.Unlock()
	if err := echo(s.open(s.outer(10443, clientID)), "x"); err != nil {
		t.Error(err)
	}
}

func TestBeforeTheFirstConfiguration(t *testing.T) {
	// There is no listener yet, so ask the decision itself.
	s := newScene(t, nil)
	if _, refusal := s.server.admit(&hbone.Request{Authority: authority}, &outer{peer: clientID}, &stream{peer: clientID}); refusal == nil || refusal.Reason != ReasonNoConfig || refusal.Status != 503 {
		t.Errorf("%v", refusal)
	}
	if s.server.Pending() == nil {
		t.Error("ready without a configuration")
	}
}

func TestAdmin(t *testing.T) {
	s := newScene(t, frozen)
	s.configure(func(g *mesh.Gateway) {
		g.Exports = append(g.Exports, mesh.ServiceKey{Namespace: "a", Hostname: "twice"}, mesh.ServiceKey{Namespace: "b", Hostname: "twice"})
	})
	s.add(s.echoPod(1), podWorkload(2, nil))
	outer := s.outer(15008, clientID)
	stream, second := s.open(outer), s.open(outer)
	if err := echo(stream, "hello"); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.server.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/config_dump", nil))
	var got dump
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Gateway.Name != "west" || got.Network != "west" || len(got.Endpoints) != 2 || got.Endpoints[0].Active != 2 || got.Endpoints[1].Failures != 1 ||
		got.Endpoints[1].Ejected == "" || len(got.Ambiguous) != 1 {
		t.Errorf("%s", w.Body)
	}
	w = httptest.NewRecorder()
	s.server.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/goroutine?debug=1", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "gateway.(*listener).serve") {
		t.Errorf("pprof: %d", w.Code)
	}
	for name, want := range map[string]float64{
		"isthmus_gateway_streams": 2, "isthmus_gateway_connections": 1, "isthmus_gateway_endpoints_ejected": 1, "isthmus_gateway_exports": 3,
		"isthmus_gateway_sent_bytes_total": 5, "isthmus_gateway_received_bytes_total": 5, "isthmus_gateway_streams_opened_total": 2,
	} {
		s.until(name+" is as it should be", func() bool { return s.count(name) == want }) // what was sent is counted a moment later
	}
	stream.Close()
	second.Close()
	s.until("all have ended", func() bool { return s.count("isthmus_gateway_streams") == 0 })
	if got := s.count("isthmus_gateway_sent_bytes_total"); got != 5 {
		t.Errorf("bytes of ended streams: %v", got)
	}
}

func TestIncompleteOptions(t *testing.T) {
	if _, err := NewServer(Options{Directory: directory.NewLive()}); err == nil {
		t.Error("a server without identity was made")
	}
}
