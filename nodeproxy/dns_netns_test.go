// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// nameServer is a DNS server in a pod outside the mesh. It answers every question of type A with one address, and counts.
type nameServer struct {
	*space
	asked atomic.Int64
}

func (c *cluster) nameServer(name, addr, answer string, listen ...string) *nameServer {
	c.t.Helper()
	s := &nameServer{space: c.pod(name, addr, nil)}
	s.serveDNS(dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		s.asked.Add(1)
		reply := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			rr, _ := dns.NewRR(q.Question[0].Name + " 5 IN A " + answer)
			reply.Answer = append(reply.Answer, rr)
		}
		rw.WriteMsg(reply)
	}), append(listen, addr)...)
	return s
}

// serveDNS serves on port 53 of the space's addresses, over UDP and TCP, until the test ends.
func (s *space) serveDNS(handler dns.Handler, addrs ...string) {
	s.t.Helper()
	for _, addr := range addrs {
		at := net.JoinHostPort(addr, "53")
		var packets net.PacketConn
		var streams net.Listener
		must(s.t, redirect.Inside(s.file, func() error {
			var err error
			if packets, err = net.ListenPacket("udp", at); err == nil {
				streams, err = net.Listen("tcp", at)
			}
			return err
		}))
		for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}} {
			started, done := make(chan struct{}), make(chan struct{})
			server.NotifyStartedFunc = func() { close(started) }
			go func() { defer close(done); server.ActivateAndServe() }()
			<-started
			s.t.Cleanup(func() { server.Shutdown(); <-done })
		}
	}
}

// ask sends a query from inside the space.
func (s *space) ask(network, server string, query *dns.Msg) (*dns.Msg, error) {
	var nc net.Conn
	if err := redirect.Inside(s.file, func() error {
		var err error
		nc, err = net.Dial(network, net.JoinHostPort(server, "53"))
		return err
	}); err != nil {
		return nil, err
	}
	defer nc.Close()
	reply, _, err := (&dns.Client{Net: network, Timeout: 10 * time.Second}).ExchangeWithConn(query, &dns.Conn{Conn: nc})
	return reply, err
}

// lastAddress is the last record of an answer, if it is an address.
func lastAddress(reply *dns.Msg) string {
	if reply == nil || len(reply.Answer) == 0 {
		return ""
	}
	switch rr := reply.Answer[len(reply.Answer)-1].(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.AAAA:
		return rr.AAAA.String()
	}
	return ""
}

// TestThePodsOwnServersAreAsked has two servers that disagree: a pod gets the answer of the one that it asked, however it asks, and
// the proxy's own is left alone.
func TestThePodsOwnServersAreAsked(t *testing.T) {
	w := newWorld(t)
	own := w.east.nameServer("dns", "10.77.0.53", "192.0.2.1")
	theirs := w.east.nameServer("custom", "10.77.0.54", "192.0.2.2", twin("10.77.0.54"))
	third := w.east.nameServer("third", "10.77.0.55", "192.0.2.3")
	for _, network := range []string{"udp", "tcp"} {
		for _, server := range []string{"10.77.0.54", twin("10.77.0.54")} {
			reply, err := w.client.ask(network, server, new(dns.Msg).SetQuestion("elsewhere.example.", dns.TypeA))
			if got := lastAddress(reply); err != nil || got != "192.0.2.2" {
				t.Errorf("%s to %s: %q, %v; want the answer of the server that was asked", network, server, got, err)
			}
		}
	}
	if n := own.asked.Load(); n != 0 {
		t.Errorf("the proxy's own server was asked %d times by a pod that has another", n)
	}
	before := third.asked.Load() + theirs.asked.Load()

	// Some resolvers (musl) ask all of their servers at once from one socket.
	var pc net.PacketConn
	must(t, redirect.Inside(w.client.file, func() error {
		var err error
		pc, err = net.ListenPacket("udp4", ":0")
		return err
	}))
	defer pc.Close()
	want := map[string]string{"10.77.0.54:53": "192.0.2.2", "10.77.0.55:53": "192.0.2.3"}
	query := new(dns.Msg).SetQuestion("both.elsewhere.example.", dns.TypeA)
	raw, err := query.Pack()
	must(t, err)
	for server := range want {
		_, err := pc.WriteTo(raw, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(server)))
		must(t, err)
	}
	must(t, pc.SetReadDeadline(time.Now().Add(10*time.Second)))
	for range len(want) {
		buffer := make([]byte, 1500)
		n, from, err := pc.ReadFrom(buffer)
		must(t, err)
		var reply dns.Msg
		must(t, reply.Unpack(buffer[:n]))
		if got := lastAddress(&reply); got != want[from.String()] {
			t.Errorf("%v answered %q, want %q", from, got, want[from.String()])
		}
		delete(want, from.String())
	}
	if len(want) != 0 {
		t.Error(fmt.Sprint("without an answer: ", want))
	}
	if n := third.asked.Load() + theirs.asked.Load() - before; n != 2 {
		t.Errorf("one query to each of two servers arrived as %d", n)
	}
}

// TestAnAnswerIsKeptForItsPod: a pod that asks the same server the same within the answer's time is told the same by its proxy, and another pod is not.
func TestAnAnswerIsKeptForItsPod(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	w.east.pod("dns", "10.77.0.53", nil).serveDNS(dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		reply := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 600 IN A 192.0.2.1")
		reply.Answer = append(reply.Answer, rr)
		rw.WriteMsg(reply)
	}), "10.77.0.53")
	for _, step := range []struct {
		what    string
		from    *space
		network string
		total   int64
	}{
		{"the first question", w.client, "udp", 1},
		{"the same again", w.client, "udp", 1},
		{"over TCP", w.client, "tcp", 2},
		{"over TCP again", w.client, "tcp", 2},
		{"another pod", w.server, "udp", 3},
		{"the first pod once more", w.client, "udp", 3},
	} {
		reply, err := step.from.ask(step.network, "10.77.0.53", new(dns.Msg).SetQuestion("elsewhere.example.", dns.TypeA))
		if got := lastAddress(reply); err != nil || got != "192.0.2.1" {
			t.Errorf("%s: %q, %v", step.what, got, err)
		}
		if n := asked.Load(); n != step.total {
			t.Errorf("%s: the server was asked %d times, want %d", step.what, n, step.total)
		}
	}
}
