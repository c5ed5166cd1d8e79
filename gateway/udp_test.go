// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// listenUDP is the gateway's way to its ports for datagrams.
func (s *scene) listenUDP(bind uint16) (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.packets[bind] = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	return conn, err
}

// udpPod answers each datagram with its name, how many it heard from that address before, and the datagram itself.
func (s *scene) udpPod(name string) netip.AddrPort {
	s.t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	go func() {
		heard, buffer := map[netip.AddrPort]int{}, make([]byte, maxDatagram)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %d %s", name, heard[from], buffer[:n]), from)
			heard[from]++
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// datagrams is a gateway with a port for UDP, 53, whose route has these backends.
func (s *scene) datagrams(change func(*mesh.Gateway), backends ...mesh.StreamBackend) {
	s.t.Helper()
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = append(g.Listeners, mesh.Listener{
			Name: "dns", Port: 53, Bind: 20053, Protocol: mesh.ListenerUDP, Stream: &mesh.StreamRoute{Namespace: "shop", Name: "dns", Backends: backends},
		})
		if change != nil {
			change(g)
		}
	})
	s.until("the port is bound", func() bool { return s.packet().IsValid() })
}

func (s *scene) packet() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets[20053]
}

var dnsKey = mesh.ServiceKey{Namespace: "shop", Hostname: "dns.shop.svc.cluster.local"} // of which the mesh knows nothing

func toDNS(weight uint32, at ...netip.AddrPort) mesh.StreamBackend {
	return mesh.StreamBackend{Service: dnsKey, Port: 53, Weight: weight, Endpoints: at}
}

func (s *scene) udpClient() *net.UDPConn {
	s.t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.packet()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a datagram until it is answered.
func (s *scene) ask(conn *net.UDPConn, say string) string {
	s.t.Helper()
	answer := ""
	s.until("datagrams are answered", func() bool {
		if _, err := conn.Write([]byte(say)); err != nil {
			return false
		}
		answer = hear(conn, time.Second)
		return answer != ""
	})
	return answer
}

// hear waits for a datagram, but not for long; "": there was none.
func hear(conn *net.UDPConn, wait time.Duration) string {
	buffer := make([]byte, maxDatagram)
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	n, err := conn.Read(buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}

// A client keeps its endpoint, and its socket there, as long as a backend with a weight has it, whatever the other backends that have it are.
func TestEndpointOfTwoBackends(t *testing.T) {
	s := newScene(t, nil)
	a := s.udpPod("a")
	for _, backends := range [][]mesh.StreamBackend{{toDNS(1, a), toDNS(0, a)}, {toDNS(0, a), toDNS(1, a)}} {
		s.datagrams(nil, backends...)
		conn := s.udpClient()
		if got := s.ask(conn, "x"); got != "a 0 x" {
			t.Fatalf("%q", got)
		}
		s.datagrams(nil, backends...) // something else has changed
		if got := s.ask(conn, "x"); got != "a 1 x" {
			t.Errorf("after a change the endpoint hears from a stranger: %q", got)
		}
	}
}

// A route that leads back to the gateway makes no clients of the gateway's own sockets, each of which would make another one.
func TestDatagramsThatComeBack(t *testing.T) {
	s := newScene(t, nil)
	s.datagrams(nil, toDNS(1, s.udpPod("a")))
	s.datagrams(nil, toDNS(1, s.packet()))
	if _, err := s.udpClient().Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	s.until("it is refused", func() bool { return strings.Contains(s.logs.text(), `"reason":"`+string(ReasonLoop)+`"`) })
	if n := s.server.clients.used(); n != 1 {
		t.Errorf("one datagram made %d clients", n)
	}
}

func TestDatagramsPassBothWays(t *testing.T) {
	s := newScene(t, nil)
	s.datagrams(nil, toDNS(1, s.udpPod("a")))
	one, other := s.udpClient(), s.udpClient()
	if got := s.ask(one, "x"); got != "a 0 x" {
		t.Errorf("%q", got)
	}
	if got := s.ask(one, "y"); got != "a 1 y" { // from the same socket
		t.Errorf("%q", got)
	}
	if got := s.ask(other, "z"); got != "a 0 z" {
		t.Errorf("%q", got)
	}
	large := string(bytes.Repeat([]byte("l"), 60000))
	if got := s.ask(one, large); got != "a 2 "+large {
		t.Errorf("%d bytes came back", len(got))
	}
	if n := s.server.clients.used(); n != 2 {
		t.Errorf("%d clients are remembered", n)
	}
	s.configure(nil)
	s.until("all is logged", func() bool { return len(s.logs.access()) == 2 })
	line := s.logs.access()[0]
	if line["bytes_sent"] == float64(5) {
		line = s.logs.access()[1]
	}
	if line["tunnel"] != "udp" || line["service"] != dnsKey.Hostname+":53" || line["bytes_received"] != float64(60002) || line["bytes_sent"] != float64(60014) {
		t.Errorf("access log: %v", line)
	}
	s.nothingLeft()
}

// TestDatagramsKeepTheirEndpoint while the route has it, and go to another one afterwards.
func TestDatagramsKeepTheirEndpoint(t *testing.T) {
	s := newScene(t, nil)
	a, b := s.udpPod("a"), s.udpPod("b")
	s.datagrams(nil, toDNS(1, a), toDNS(0, b))
	conn := s.udpClient()
	for i := range 3 {
		if got, want := s.ask(conn, "x"), fmt.Sprintf("a %d x", i); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	s.datagrams(nil, toDNS(1, a, b))
	if got := s.ask(conn, "x"); got != "a 3 x" {
		t.Errorf("%q", got)
	}
	s.datagrams(nil, toDNS(0, a), toDNS(1, b))
	s.until("the other endpoint answers", func() bool { return s.ask(conn, "x")[0] == 'b' })
}

// TestDatagramsLeaveAnEndpointThatRefuses.
func TestDatagramsLeaveAnEndpointThatRefuses(t *testing.T) {
	gone, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	gone.Close()
	s := newScene(t, nil)
	s.datagrams(nil, toDNS(1, nobody, s.udpPod("a")))
	for range 20 {
		if got := s.ask(s.udpClient(), "x"); got[0] != 'a' {
			t.Errorf("%q", got)
		}
	}
}

// TestDatagramsThatGoNowhere are counted, and do not fill the log.
func TestDatagramsThatGoNowhere(t *testing.T) {
	s := newScene(t, nil)
	loopback := mesh.PolicyMatch{SourceIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	deny := []*mesh.Policy{{Namespace: "edge", Name: "p", Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{loopback}}}}}}}
	for reason, change := range map[Reason]func(*mesh.Gateway){
		ReasonNoRoute:    func(g *mesh.Gateway) { g.Listeners[1].Stream = nil },
		ReasonNoBackend:  func(g *mesh.Gateway) { g.Listeners[1].Stream.Backends = nil },
		ReasonNoEndpoint: func(g *mesh.Gateway) { g.Listeners[1].Stream.Backends[0].Endpoints = nil },
		ReasonDenied:     func(g *mesh.Gateway) { g.Policies = deny },
	} {
		s.datagrams(change, toDNS(1, s.udpPod("a")))
		conn := s.udpClient()
		before := s.counted("isthmus_gateway_streams_refused_total", reason)
		s.until("datagrams are refused for "+string(reason), func() bool {
			_, _ = conn.Write([]byte("x"))
			return s.counted("isthmus_gateway_streams_refused_total", reason) >= before+20
		})
		if got := hear(conn, 20*time.Millisecond); got != "" {
			t.Errorf("%s: %q is answered", reason, got)
		}
	}
	if n := len(s.logs.access()); n > 20 {
		t.Errorf("%d lines are written about more than 80 datagrams", n)
	}
	s.nothingLeft()
}

// TestDatagramClientsAreBounded: who sends in others' names takes the places of its like, not of those who are answered and go on, and all are
// forgotten when they are silent.
func TestDatagramClientsAreBounded(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.DatagramClients, o.Limits.DatagramClientsPerAddress = 20, 20 })
	s.datagrams(nil, toDNS(1, s.udpPod("a")))
	good := s.udpClient()
	s.ask(good, "x")
	s.ask(good, "x")
	for range 200 {
		if _, err := s.udpClient().Write([]byte("spoofed")); err != nil {
			t.Fatal(err)
		}
		if n := s.server.clients.used(); n > 20 {
			t.Fatalf("%d clients are remembered", n)
		}
	}
	if got := s.ask(good, "x"); got != "a 2 x" {
		t.Errorf("%q: the client lost its place", got)
	}
	if got := s.ask(s.udpClient(), "x"); got != "a 0 x" {
		t.Errorf("a new client: %q", got)
	}
	s.configure(nil)
	s.nothingLeft()
}

// TestSilentClientsGiveWay: who sends twice in others' names does not keep others out for longer than it goes on with all of them.
func TestSilentClientsGiveWay(t *testing.T) {
	var later atomic.Int64
	s := newScene(t, func(o *Options) {
		o.Limits.DatagramClients, o.Limits.DatagramClientsPerAddress = 5, 5
		o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	s.datagrams(nil, toDNS(1, s.udpPod("a")))
	good := s.udpClient()
	prove := func(conn *net.UDPConn) {
		s.ask(conn, "x")
		s.ask(conn, "x")
	}
	for range 4 {
		prove(s.udpClient())
	}
	prove(good) // last, so that a datagram of the one below that is still on its way takes another one's place
	conn := s.udpClient()
	s.until("one is turned away while all others talk", func() bool {
		_, _ = conn.Write([]byte("x"))
		return s.count("isthmus_gateway_limited_total") > 0
	})
	later.Store(int64(talking))
	if got := s.ask(good, "x"); got != "a 2 x" {
		t.Errorf("%q", got)
	}
	for range 4 { // each takes the place of one that is silent, and talks
		prove(s.udpClient())
	}
	if got := s.ask(good, "x"); got != "a 3 x" {
		t.Errorf("%q: who talks has lost its place", got)
	}
	s.configure(nil)
	s.nothingLeft()
}

// TestDatagramClientsOfOneAddressAreBounded, and take nobody else's place.
func TestDatagramClientsOfOneAddressAreBounded(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.DatagramClientsPerAddress = 3 })
	s.datagrams(nil, toDNS(1, s.udpPod("a")))
	first := s.udpClient()
	s.ask(first, "x")
	for range 2 {
		s.ask(s.udpClient(), "x")
	}
	conn := s.udpClient()
	s.until("one too many is turned away", func() bool {
		_, _ = conn.Write([]byte("x"))
		return s.server.metrics != nil && s.count("isthmus_gateway_limited_total") > 0
	})
	if got := hear(conn, 20*time.Millisecond); got != "" {
		t.Errorf("%q", got)
	}
	if got := s.ask(first, "x"); got != "a 1 x" {
		t.Errorf("%q", got)
	}
}

// TestSilentClientsAreForgotten, and a gateway that ends waits for those that are not.
func TestSilentClientsAreForgotten(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.DatagramIdle = 2 * time.Second }) // half a second for who has sent but once, and an answer on a busy machine may take longer
	s.datagrams(nil, toDNS(1, s.udpPod("a")))
	s.ask(s.udpClient(), "x")
	s.nothingLeft()
	s.until("it is logged", func() bool { return len(s.logs.access()) > 0 })
	for _, line := range s.logs.access() {
		if line["reason"] != "-" {
			t.Errorf("access log: %v", line)
		}
	}
	s.ask(s.udpClient(), "x")
	s.stop()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Error("the gateway waits for somebody who is silent")
	}
}
