// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// marker is a text that nobody between the two proxies may ever see.
const marker = "marker-of-the-plaintext-5c1e"

func TestDoubleHBONEReachesAPodUnread(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.pod(1))
	outer := s.outer(15008, clientID)
	answer, header, err := s.call(outer, authority, marker)
	if err != nil {
		t.Fatal(err)
	}
	if want := "cart-1 " + clientID.String() + " " + authority + " east " + marker; answer != want {
		t.Errorf("answer %q, want %q", answer, want)
	}
	if header.Get(headerEndpoint) != endpointID("west", "west//Pod/shop/cart-1") || header.Get(headerEndpoints) != "1" {
		t.Errorf("header of the 200: %v", header)
	}
	s.until("the stream is logged", func() bool { return len(s.logs.access()) == 1 })
	line := s.logs.access()[0]
	for key, want := range map[string]any{
		"direction": "gateway", "tunnel": "hbone", "peer": clientID.String(), "service": authority, "workload": "shop/cart-1", "network": "",
		"destination": "10.0.0.1:15008", "endpoint": "10.0.0.1", "outer": outer.NetConn().LocalAddr().String(), "source": outer.NetConn().LocalAddr().String(),
		"status": 200.0, "reason": "-", "error": "", "source_identity": clientID.String(), "destination_cluster": "west",
	} {
		if line[key] != want {
			t.Errorf("access log: %s = %v, want %v", key, line[key], want)
		}
	}
	for _, key := range []string{"bytes_sent", "bytes_received"} {
		if n, _ := line[key].(float64); n < 500 {
			t.Errorf("access log: %s = %v, want the bytes of an inner handshake at least", key, line[key])
		}
	}
	if opened := `"msg":"stream opened","direction":"gateway","tunnel":"hbone","peer":"` + clientID.String() + `","service":"` + authority + `"`; strings.Count(s.logs.text(), opened) != 1 {
		t.Errorf("no line says that the stream began: %s", s.logs.text())
	}
	if strings.Contains(s.logs.text(), marker) {
		t.Error("plaintext in the log")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire.Len() < 1000 || bytes.Contains(s.wire.Bytes(), []byte(marker)) {
		t.Errorf("%d bytes between gateway and pod, with plaintext: %v", s.wire.Len(), bytes.Contains(s.wire.Bytes(), []byte(marker)))
	}
}

func TestOuterConnectionIsShared(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.pod(1))
	outer := s.outer(15008, clientID)
	for range 20 {
		if _, _, err := s.call(outer, authority, "x"); err != nil {
			t.Fatal(err)
		}
	}
	s.until("the streams are logged", func() bool { return len(s.logs.access()) == 20 })
	for _, line := range s.logs.access() {
		if line["outer"] != outer.NetConn().LocalAddr().String() {
			t.Errorf("outer %v", line["outer"])
		}
	}
}

// TestBytesAreUntouched sends noise both ways, ends the directions one after the other, and compares.
func TestBytesAreUntouched(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	noise, back := make([]byte, 3<<20), make([]byte, 2<<20)
	rand.Read(noise)
	rand.Read(back)
	got := make(chan []byte, 1)
	s.add(s.tcp(1, func(nc *net.TCPConn) {
		all, _ := io.ReadAll(nc) // ends with the client's half-close
		got <- all
		_, _ = nc.Write(back)
	}))
	outer := s.outer(15008, clientID)
	stream, _, err := outer.Open(t.Context(), authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Write(noise); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(stream)
	if err != nil || !bytes.Equal(answer, back) {
		t.Errorf("%d bytes came back, error %v, want %d", len(answer), err, len(back))
	}
	if all := <-got; !bytes.Equal(all, noise) {
		t.Errorf("%d bytes arrived, want %d the same", len(all), len(noise))
	}
}

func TestResetIsPassedOnBothWays(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	atPod := make(chan error, 1)
	s.add(s.tcp(1, func(nc *net.TCPConn) {
		buf := make([]byte, 5)
		if _, err := io.ReadFull(nc, buf); err != nil {
			atPod <- err
			return
		}
		if string(buf) == "reset" {
			_ = nc.SetLinger(0)
			return
		}
		_, err := io.ReadAll(nc)
		atPod <- err
	}))
	outer := s.outer(15008, clientID)
	open := func(say string) *hbone.Stream {
		t.Helper()
		stream, _, err := outer.Open(t.Context(), authority, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stream, say); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	stream := open("reset")
	defer stream.Close()
	if _, err := io.ReadAll(stream); err == nil {
		t.Error("the pod's reset looked like an ordinary end")
	}
	stream = open("hello")
	if err := stream.Reset(2); err != nil { // INTERNAL_ERROR
		t.Fatal(err)
	}
	if err := <-atPod; err == nil {
		t.Error("the client's reset looked like an ordinary end")
	}
}

func TestRefusalsOnTheWire(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(podWorkload(9, func(w *mesh.Workload) { w.Unhealthy = true }))
	trusted, strange := s.outer(15008, clientID), s.outer(15008, strangeID)
	for _, tc := range []struct {
		name      string
		outer     *hbone.Conn
		authority string
		status    int
		reason    Reason
	}{
		{"foreign trust domain", strange, authority, 401, ReasonTrustDomain},
		{"unknown name", trusted, "nobody.shop.svc.cluster.local:80", 503, ReasonNotExported},
		{"unknown address", trusted, "10.96.0.8:80", 503, ReasonNotExported},
		{"pod address", trusted, "10.0.0.9:8080", 503, ReasonNotExported},
		{"unknown port", trusted, hostname + ":81", 503, ReasonUnknownPort},
		{"nobody ready", trusted, authority, 503, ReasonNoEndpoint},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if status, reason := s.refusal(tc.outer, tc.authority, nil); status != tc.status || reason != string(tc.reason) {
				t.Errorf("%d %q, want %d %q", status, reason, tc.status, tc.reason)
			}
		})
	}
	s.until("all are logged", func() bool { return len(s.logs.access()) == 6 })
	if !slices.ContainsFunc(s.logs.access(), func(line map[string]any) bool {
		return line["status"] == 401.0 && line["reason"] == string(ReasonTrustDomain) && line["peer"] == strangeID.String()
	}) {
		t.Errorf("access log: %v", s.logs.access())
	}
	if got := len(s.dialled()); got != 0 {
		t.Errorf("%d endpoints were dialled for streams that were refused", got)
	}
	// The same connection goes on to work.
	s.add(s.pod(1))
	if _, _, err := s.call(trusted, authority, "x"); err != nil {
		t.Error(err)
	}
}

func TestClientsThatProveNothingAreNotServed(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	nc, err := net.Dial("tcp", s.address(15008))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(nc); bytes.Contains(answer, []byte("HTTP")) {
		t.Errorf("plaintext was answered: %q", answer)
	}
	// A certificate of an authority that nobody trusts.
	rogue := newScene(t, nil)
	rogue.mu.Lock()
	rogue.binds[15008] = s.address(15008)
	rogue.mu.Unlock()
	if conn, err := rogue.tryOuter(s.address(15008), clientID); err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, _, err := conn.Open(ctx, authority, nil); err == nil {
			t.Error("a client of an unknown authority was served")
		}
	}
	s.until("the failures are counted", func() bool { return s.count("isthmus_gateway_handshake_failures_total") == 2 })
}

// count sums a counter over its labels.
func (s *scene) count(name string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}
