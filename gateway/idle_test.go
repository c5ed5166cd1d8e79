// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestIdleConnectionsGiveWay: peers that may do nothing, and those that have nothing to do, keep nobody out.
func TestIdleConnectionsGiveWay(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections, o.Limits.ConnectionsPerPeer = 4, 8 })
	s.guards([]*mesh.Policy{policyOn("nothing-for-strangers", mesh.Deny, principal(strangeID))}, nil)
	s.add(s.echoPod(1))
	connect := func(what string, as mesh.Identity) *hbone.Conn {
		t.Helper()
		s.until("there is room for one more, or one that gives way", func() bool { return s.server.connections.used() <= 4 })
		conn, err := s.tryOuter(s.address(15008), as)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return conn
	}
	over := func(conn *hbone.Conn) bool {
		select {
		case <-conn.Done():
			return true
		default:
			return conn.Draining()
		}
	}
	busy := connect("one that will carry a stream", clientID)
	running := s.open(busy)
	rested := connect("one that has carried a stream", clientID)
	s.open(rested).Close()
	s.until("it has ended", func() bool { return s.server.streamQuota.used() == 1 })
	for range 2 {
		if status, _ := s.refusal(connect("one that may do nothing", strangeID), authority, nil); status != 401 {
			t.Fatal(status)
		}
	}
	for range 2 {
		s.open(connect("an honest one in place of one that may do nothing", clientID))
	}
	if over(rested) || over(busy) {
		t.Error("one that carried something gave way before those that never did")
	}
	s.open(connect("an honest one in place of one that rests", clientID))
	s.until("the one that rests has given way", func() bool { return over(rested) })
	if _, err := s.tryOuter(s.address(15008), clientID); err == nil {
		t.Error("a fifth connection has a place while four carry streams")
	}
	if _, err := running.Write([]byte("x")); err != nil || over(busy) {
		t.Errorf("one that carries a stream gave way: %v", err)
	}
}

// TestPlacesOfThoseThatLeave: connections that take their time to give way have no more places than a few.
func TestPlacesOfThoseThatLeave(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.Connections, o.Limits.ConnectionsPerPeer = 2, 2 })
	s.configure(nil)
	idle := s.outer(15008, clientID)
	s.until("it is counted", func() bool { return s.server.peers.used() == 1 })
	for range 2 { // as if of peers that do not end theirs
		s.server.connections.force(struct{}{})
	}
	if conn, err := s.tryOuter(s.address(15008), clientID); err == nil {
		conn.Close()
		t.Error("a fourth connection has a place, of two")
	}
	if idle.Draining() {
		t.Error("one gave way to a connection that has no place")
	}
	s.server.connections.give(struct{}{})
	if _, err := s.tryOuter(s.address(15008), clientID); err != nil {
		t.Errorf("one gives way, and the next one has no place: %v", err)
	}
}
