// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestStreamLimits(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Streams, o.Limits.StreamsPerPeer, o.Limits.StreamsPerService = 3, 2, 3 })
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

// A silent connection gives way to another one of its address when there are too many, and ends in time otherwise.
func TestHandshakeLimits(t *testing.T) {
	s := newScene(t, func(o *Options) {
		o.Limits.HandshakesPerAddress = 2
		o.Limits.HandshakeTimeout = time.Second
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
		s.until("it is waited for", func() bool { return s.server.strangers.Silent() == len(slow) })
	}
	if _, err := s.tryOuter(address, clientID); err != nil {
		t.Errorf("a third one from that address, which speaks: %v", err)
	}
	if n := s.count("isthmus_gateway_limited_total"); n != 1 {
		t.Errorf("limited_total %v, want 1", n)
	}
	for _, nc := range slow {
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("a silent client was talked to")
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a silent client was kept")
		}
	}
}

// Peers that send a byte each, or a hello and nothing more, and stay: more than there are places, from the address of one that is honest.
func TestStrangersHoldNobodyUp(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	address, hello := s.address(15008), helloOf(t, "")
	for i := range 600 {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		say := []byte{22}
		if i%2 == 1 {
			say = hello
		}
		if _, err := nc.Write(say); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if _, err := s.tryOuter(address, clientID); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("an honest handshake took %v", took)
	}
}

func TestConnectionLimit(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections, o.Limits.ConnectionsPerPeer = 2, 2 })
	s.configure(nil)
	s.add(s.echoPod(1))
	a, b := s.outer(15008, clientID), s.outer(15008, clientID)
	s.open(a)
	s.open(b)
	if _, err := s.tryOuter(s.address(15008), clientID); err == nil {
		t.Error("a third connection was let in")
	}
	a.Close()
	s.until("room is given back", func() bool { return s.server.connections.used() == 1 })
	if _, err := s.tryOuter(s.address(15008), clientID); err != nil {
		t.Error(err)
	}
}

func TestConnectionLimitOfOnePeer(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections = 4 }) // half of them for one identity
	s.configure(nil)
	s.add(s.pod(1))
	a, b := s.outer(15008, clientID), s.outer(15008, clientID)
	s.until("both are counted", func() bool { return s.server.peers.used() == 2 })
	if c, err := s.tryOuter(s.address(15008), clientID); err == nil {
		if _, _, err := s.call(c, authority, "x"); err == nil {
			t.Error("a third connection of one identity was served")
		}
	}
	if status, _ := s.refusal(s.outer(15008, strangeID), authority, nil); status != 401 {
		t.Errorf("another identity got %d, want an answer", status)
	}
	a.Close()
	s.until("room is given back", func() bool { return s.server.peers.used() == 2 })
	for _, conn := range []*hbone.Conn{b, s.outer(15008, clientID)} {
		if _, _, err := s.call(conn, authority, "x"); err != nil {
			t.Error(err)
		}
	}
}

// TestStreamLimitOfOneService: a service whose endpoints do not answer keeps no other one from being served.
func TestStreamLimitOfOneService(t *testing.T) {
	const slow = "slow.shop.svc.cluster.local"
	slowKey := mesh.ServiceKey{Namespace: "shop", Hostname: slow}
	s := newScene(t, func(o *Options) { o.Limits.Streams, o.Limits.StreamsPerPeer = 4, 4 }) // half of them for one service
	s.configure(func(g *mesh.Gateway) { g.Exports = []mesh.ServiceKey{cartKey, slowKey} })
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{slowKey: cartService(func(svc *mesh.Service) {
		svc.Name, svc.Hostname, svc.Addresses = "slow", slow, nil
	})}})
	s.mu.Lock()
	s.black[netip.MustParseAddrPort("10.0.0.9:15008")] = true
	s.mu.Unlock()
	s.add(s.pod(1), podWorkload(9, func(w *mesh.Workload) {
		w.UID, w.Services = "west//Pod/shop/slow-9", map[mesh.ServiceKey][]mesh.Port{slowKey: {{Service: 80, Target: 8080}}}
	}))
	outer := s.outer(15008, clientID)
	ctx, leave := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() { _, _, _ = outer.Open(ctx, slow+":80", nil) }) // ends with leave
	}
	s.until("both wait", func() bool { return s.server.services.used() == 2 })
	if status, reason := s.refusal(outer, slow+":80", nil); status != 503 || reason != string(ReasonServiceOverload) {
		t.Errorf("a third stream to the slow service: %d %q", status, reason)
	}
	if _, _, err := s.call(outer, authority, "x"); err != nil {
		t.Errorf("another service: %v", err)
	}
	s.until("it is counted", func() bool { return s.counted("isthmus_gateway_streams_refused_total", ReasonServiceOverload) == 1 }) // after it is answered
	leave()
	waiting.Wait()
	s.until("nothing is left of them", func() bool { return s.server.services.used() == 0 && s.server.streamQuota.used() == 0 })
}
