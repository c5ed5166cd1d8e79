// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
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
		"status": 200.0, "reason": "-", "error": "",
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

func TestDeadEndpointsAreSkippedAndLeftOut(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(podWorkload(1, nil), podWorkload(2, nil), s.pod(3)) // two that refuse
	outer := s.outer(15008, clientID)
	for range 10 {
		answer, header, err := s.call(outer, authority, "x")
		if err != nil || !strings.HasPrefix(answer, "cart-3 ") {
			t.Fatalf("%q, %v", answer, err)
		}
		if header.Get(headerEndpoints) != "3" {
			t.Errorf("%s endpoints, want the 3 that discovery calls ready", header.Get(headerEndpoints))
		}
	}
	dead := 0
	for _, d := range s.dialled() {
		if d.Addr() != netip.MustParseAddr("10.0.0.3") {
			dead++
		}
	}
	if dead < 2 || dead > 6 {
		t.Errorf("dead endpoints were dialled %d times for 10 streams, want each once and again after a pause only", dead)
	}
}

func TestAllEndpointsDead(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(podWorkload(1, nil), podWorkload(2, nil))
	outer := s.outer(15008, clientID)
	for range 3 {
		if status, reason := s.refusal(outer, authority, nil); status != 503 || reason != string(ReasonConnect) {
			t.Errorf("%d %q", status, reason)
		}
	}
	// Left out or not, endpoints that are the last hope are tried each time.
	if got := len(s.dialled()); got != 6 {
		t.Errorf("%d attempts for 3 streams on 2 endpoints, want 6", got)
	}
}

func TestSilentEndpointCostsOneAttemptOnly(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.AttemptTimeout = 50 * time.Millisecond; o.Limits.ConnectTimeout = patience })
	s.configure(nil)
	s.add(podWorkload(1, nil), s.pod(2))
	s.mu.Lock()
	s.black[netip.MustParseAddrPort("10.0.0.1:15008")] = true
	s.mu.Unlock()
	outer := s.outer(15008, clientID)
	for range 4 {
		if answer, _, err := s.call(outer, authority, "x"); err != nil || !strings.HasPrefix(answer, "cart-2 ") {
			t.Fatalf("%q, %v", answer, err)
		}
	}
}

func TestAllAttemptsShareOneDeadline(t *testing.T) {
	s := newScene(t, func(o *Options) {
		o.Limits.AttemptTimeout = 40 * time.Millisecond
		o.Limits.ConnectTimeout = 100 * time.Millisecond
	})
	s.configure(nil)
	for n := range 20 {
		s.add(podWorkload(n+1, nil))
		s.mu.Lock()
		s.black[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}), 15008)] = true
		s.mu.Unlock()
	}
	outer := s.outer(15008, clientID)
	if status, reason := s.refusal(outer, authority, nil); status != 503 || reason != string(ReasonConnect) {
		t.Errorf("%d %q", status, reason)
	}
	if got := len(s.dialled()); got > 4 {
		t.Errorf("%d attempts of 40 ms within a deadline of 100 ms", got)
	}
}

func TestClientThatLeavesStopsTheAttempt(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(podWorkload(1, nil))
	s.mu.Lock()
	s.black[netip.MustParseAddrPort("10.0.0.1:15008")] = true
	s.mu.Unlock()
	outer := s.outer(15008, clientID)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.until("the endpoint is dialled", func() bool { return len(s.dialled()) == 1 })
		cancel()
	}()
	if _, _, err := outer.Open(ctx, authority, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.until("it is logged", func() bool { return len(s.logs.access()) == 1 })
	if reason := s.logs.access()[0]["reason"]; reason != string(ReasonClientGone) {
		t.Errorf("reason %v", reason)
	}
	if _, out := s.server.balancer.counts(); out != 0 {
		t.Error("the endpoint was blamed for the client's leaving")
	}
	s.until("nothing is left of it", func() bool { return s.server.streamQuota.used() == 0 })
}

func TestEndpointThatAcceptsAndHangsUpIsLeftOut(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.tcp(1, func(nc *net.TCPConn) { _, _ = nc.Read(make([]byte, 1)) }), s.pod(2)) // one hangs up after the first byte
	outer := s.outer(15008, clientID)
	failed := 0
	for range 8 {
		if _, _, err := s.call(outer, authority, "x"); err != nil {
			failed++
			// The next stream must find the endpoint left out, so wait until this one's end was noticed.
			s.until("the failure is known", func() bool { _, out := s.server.balancer.counts(); return out == 1 })
		}
	}
	if failed > 1 {
		t.Errorf("%d of 8 streams met an endpoint that hangs up, want the first only", failed)
	}
}

func TestStreamsAreSpreadEvenlyAndAvoidIsHonoured(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.pod(1), s.pod(2), s.pod(3))
	outer := s.outer(15008, clientID)
	ids := map[string]int{}
	for range 30 {
		_, header, err := s.call(outer, authority, "x")
		if err != nil {
			t.Fatal(err)
		}
		ids[header.Get(headerEndpoint)]++
		s.until("it has ended", func() bool { return s.server.streamQuota.used() == 0 })
	}
	if len(ids) != 3 {
		t.Fatalf("%v", ids)
	}
	var names []string
	for id, n := range ids {
		if n != 10 {
			t.Errorf("endpoint %s has %d of 30 streams", id, n)
		}
		names = append(names, id)
	}
	slices.Sort(names)
	for range 5 {
		stream, header, err := outer.Open(t.Context(), authority, hbone.Header{{Name: headerAvoid, Value: names[0] + ", " + names[2]}})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if header.Get(headerEndpoint) != names[1] {
			t.Errorf("got %s, asked to avoid all but %s", header.Get(headerEndpoint), names[1])
		}
	}
	stream, _, err := outer.Open(t.Context(), authority, hbone.Header{{Name: headerAvoid, Value: strings.Join(names, ",")}})
	if err != nil {
		t.Errorf("all are to be avoided: %v, want any", err)
	} else {
		stream.Close()
	}
}

func TestStreamLimits(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Streams, o.Limits.StreamsPerPeer = 3, 2 })
	s.configure(nil)
	s.add(s.tcp(1, func(nc *net.TCPConn) { _, _ = io.Copy(io.Discard, nc) }))
	outer := s.outer(15008, clientID)
	open := func(c *hbone.Conn) (*hbone.Stream, error) {
		stream, _, err := c.Open(t.Context(), authority, nil)
		return stream, err
	}
	var streams []*hbone.Stream
	for range 2 {
		stream, err := open(outer)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	if status, reason := s.refusal(outer, authority, nil); status != 503 || reason != string(ReasonOverload) {
		t.Errorf("third stream of a peer: %d %q", status, reason)
	}
	other := s.outer(15008, mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "other"})
	stream, err := open(other)
	if err != nil {
		t.Fatalf("another peer: %v", err)
	}
	streams = append(streams, stream)
	if status, _ := s.refusal(other, authority, nil); status != 503 {
		t.Errorf("fourth stream in all: %d", status)
	}
	for _, stream := range streams {
		stream.Close()
	}
	s.until("room is given back", func() bool { return s.server.streamQuota.used() == 0 })
	if stream, err := open(outer); err != nil {
		t.Error(err)
	} else {
		stream.Close()
	}
	if got := s.count("isthmus_gateway_limited_total"); got != 2 {
		t.Errorf("limited_total %v, want 2", got)
	}
}

func TestHandshakeLimits(t *testing.T) {
	s := newScene(t, func(o *Options) {
		o.Limits.HandshakesPerAddress = 2
		o.Limits.HandshakeTimeout = 300 * time.Millisecond
	})
	s.configure(nil)
	address := s.address(15008)
	var slow []net.Conn
	for range 2 { // two that connect and say nothing
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		slow = append(slow, nc)
	}
	s.until("both hold a slot", func() bool { return s.server.handshakes.used() == 2 })
	if _, err := s.tryOuter(address, clientID); err == nil {
		t.Error("a third handshake from one address was let in")
	}
	for _, nc := range slow {
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("a silent client was talked to")
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a silent client was kept")
		}
	}
	if _, err := s.tryOuter(address, clientID); err != nil {
		t.Errorf("after the slow ones were thrown out: %v", err)
	}
}

func TestConnectionLimit(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections = 2 })
	s.configure(nil)
	a, _ := s.outer(15008, clientID), s.outer(15008, clientID)
	if _, err := s.tryOuter(s.address(15008), clientID); err == nil {
		t.Error("a third connection was let in")
	}
	a.Close()
	s.until("room is given back", func() bool { return s.server.connections.used() == 1 })
	if _, err := s.tryOuter(s.address(15008), clientID); err != nil {
		t.Error(err)
	}
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
