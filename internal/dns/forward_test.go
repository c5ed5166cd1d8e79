// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// upstream is a server that answers by a handler, with what it saw.
func upstream(t *testing.T, handle func(w dns.ResponseWriter, q *dns.Msg)) netip.AddrPort {
	t.Helper()
	// Both protocols need the same port, and the one that the system gives for the first may be in use for the second.
	var pc net.PacketConn
	l, err := net.Listen("tcp", "127.0.0.1:0")
	for range 20 {
		if err != nil {
			t.Fatal(err)
		}
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		l.Close()
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if pc == nil {
		t.Fatal("no port is free for both TCP and UDP")
	}
	addr := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: dns.HandlerFunc(handle)}, {Listener: l, Handler: dns.HandlerFunc(handle)}} {
		s.TsigSecret = testKey
		// All operations arrive, not only questions.
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { s.Shutdown(); <-done })
	}
	return addr
}

func dialUpstream(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, to.String())
}

func servers(addrs ...netip.AddrPort) func() []netip.AddrPort {
	return func() []netip.AddrPort { return addrs }
}

func TestForwardPassesTheQueryOn(t *testing.T) {
	good := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(fmt.Sprintf("%s 5 IN TXT \"edns %v\"", q.Question[0].Name, q.IsEdns0() != nil))
		reply.Answer = []dns.RR{rr}
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
			w.WriteMsg(reply)
			return
		}
		// Somebody else's answers come first, and are passed over.
		for _, change := range []func(*dns.Msg){
			func(m *dns.Msg) { m.Id++ },
			func(m *dns.Msg) { m.Question[0].Name = "evil.example." },
			func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA },
			func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
			func(m *dns.Msg) { m.Question = nil },
			func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
			func(m *dns.Msg) { m.Response = false },
			func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate },
		} {
			forged := reply.Copy()
			change(forged)
			forged.Answer[0].(*dns.TXT).Txt[0] = "forged"
			w.WriteMsg(forged)
		}
		w.WriteMsg(reply)
	})
	s := meshServer((&Forwarder{Servers: servers(good), Dial: dialUpstream}).Forward)
	udp, tcp, _ := startServer(t, s)
	for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
		query := new(dns.Msg).SetQuestion("eLSEwhere.example.", dns.TypeTXT).SetEdns0(1232, true)
		reply := exchange(t, network, addr, query)
		if reply.Id != query.Id || reply.Question[0].Name != query.Question[0].Name || len(reply.Answer) != 1 || !strings.Contains(reply.Answer[0].String(), "edns true") {
			t.Errorf("over %s: %v", network, reply)
		}
	}
}

// TestQueriesCannotBeForetold looks at ids and ports as the server sees them.
func TestQueriesCannotBeForetold(t *testing.T) {
	var mu sync.Mutex
	ids, ports := map[uint16]int{}, map[string]int{}
	server := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		ids[q.Id]++
		ports[w.RemoteAddr().String()]++
		mu.Unlock()
		w.WriteMsg(new(dns.Msg).SetReply(q))
	})
	f := &Forwarder{Dial: dialUpstream}
	query := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	query.Id = 1
	raw, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	const n = 64
	for range n {
		answer, err := f.Forward(t.Context(), Query{Raw: raw, Asked: server, Limit: 512})
		if err != nil || answer[0] != 0 || answer[1] != 1 {
			t.Fatalf("%x, %v", answer, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	// Of 64 of 65,536 ids, two pairs are the same in one of 1,000 runs, six in one of 10^12; ports are of some 28,000.
	if len(ids) < n-6 || len(ports) < n-6 {
		t.Errorf("%d queries had %d ids and %d ports", n, len(ids), len(ports))
	}
}

// TestUpdatesPass sends what is no question: servers may leave the zone out of the answer to an update.
func TestUpdatesPass(t *testing.T) {
	server := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.IsTsig() != nil {
			reply := new(dns.Msg).SetReply(q)
			if reply.Rcode = dns.RcodeSuccess; w.TsigStatus() != nil {
				reply.Rcode = dns.RcodeNotAuth
			}
			reply.SetTsig("key.", dns.HmacSHA256, 300, time.Now().Unix())
			w.WriteMsg(reply)
			return
		}
		reply := new(dns.Msg).SetReply(q)
		if q.Opcode != dns.OpcodeUpdate || len(q.Ns) != 1 {
			reply.Rcode = dns.RcodeRefused
		}
		reply.Question = nil
		w.WriteMsg(reply)
	})
	udp, tcp, _ := startServer(t, meshServer((&Forwarder{Servers: servers(server), Dial: dialUpstream}).Forward))
	for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
		update := new(dns.Msg).SetUpdate("shop.svc.cluster.local.")
		rr, _ := dns.NewRR("cart.shop.svc.cluster.local. 5 IN A 192.0.2.1")
		update.Insert([]dns.RR{rr})
		if reply := exchange(t, network, addr, update); reply.Rcode != dns.RcodeSuccess {
			t.Errorf("over %s: %v", network, reply)
		}
		// A signature covers the id that the signer chose, which it carries along.
		update.SetTsig("key.", dns.HmacSHA256, 300, time.Now().Unix())
		client := &dns.Client{Net: network, TsigSecret: testKey}
		if reply, _, err := client.Exchange(update, addr); err != nil || reply.Rcode != dns.RcodeSuccess || reply.IsTsig() == nil {
			t.Errorf("signed, over %s: %v, %v", network, reply, err)
		}
	}
}

// testKey signs messages between the tests and their servers.
var testKey = map[string]string{"key.": "c2VjcmV0c2VjcmV0c2VjcmV0"}

// TestLongAnswersFromUpstream has a server that sends more than the client takes, and one that says so itself.
func TestLongAnswersFromUpstream(t *testing.T) {
	server := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		for i := range 100 {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 5 IN A 192.0.2.%d", q.Question[0].Name, i))
			reply.Answer = append(reply.Answer, rr)
		}
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp && strings.HasPrefix(q.Question[0].Name, "honest") {
			reply.Truncate(512)
		}
		w.WriteMsg(reply)
	})
	udp, tcp, _ := startServer(t, meshServer((&Forwarder{Servers: servers(server), Dial: dialUpstream}).Forward))
	for _, name := range []string{"honest.example.", "rude.example."} {
		query := new(dns.Msg).SetQuestion(name, dns.TypeA)
		if reply := exchange(t, "udp", udp, query); !reply.Truncated || reply.Rcode != dns.RcodeSuccess {
			t.Errorf("%s over UDP: %v", name, reply)
		}
		if reply := exchange(t, "tcp", tcp, query); reply.Truncated || len(reply.Answer) != 100 {
			t.Errorf("%s over TCP: %d answers", name, len(reply.Answer))
		}
	}
}

func TestForwardGoesOnToTheNextServer(t *testing.T) {
	good := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError)) })
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	query, err := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, tcp := range []bool{false, true} {
		f := &Forwarder{Servers: servers(closed, good), Dial: dialUpstream}
		answer, err := f.Forward(t.Context(), Query{Raw: query, TCP: tcp, Limit: 512})
		var reply dns.Msg
		if err != nil || reply.Unpack(answer) != nil || reply.Rcode != dns.RcodeNameError {
			t.Errorf("tcp %v: %v, %v", tcp, reply, err)
		}
		// The client's own server is the only one that is asked for it.
		if answer, err := f.Forward(t.Context(), Query{Raw: query, TCP: tcp, Limit: 512, Asked: closed}); err == nil {
			t.Errorf("tcp %v: another server answered %x", tcp, answer)
		}
		f.Servers = servers()
		if _, err := f.Forward(t.Context(), Query{Raw: query, TCP: tcp, Limit: 512}); !errors.Is(err, errNoServer) {
			t.Errorf("an answer from nowhere: %v", err)
		}
		if _, err := f.Forward(t.Context(), Query{Raw: query[:5], TCP: tcp, Limit: 512, Asked: good}); err == nil {
			t.Error("an answer to half a header")
		}
	}
}

func TestForwardEndsWithItsContext(t *testing.T) {
	silent := upstream(t, func(dns.ResponseWriter, *dns.Msg) {})
	query, _ := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
	f := &Forwarder{Servers: servers(silent, silent, silent, silent), Dial: dialUpstream}
	for _, tcp := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		began := time.Now()
		if _, err := f.Forward(ctx, Query{Raw: query, TCP: tcp, Limit: 512}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) >= nextTimeout { // by then the first server alone would have ended it
			t.Errorf("tcp %v: %v after %v", tcp, err, time.Since(began))
		}
		cancel()
	}
}
