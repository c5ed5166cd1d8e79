// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startServer serves on loopback, by UDP and TCP on addresses of their own, and ends with the test.
func startServer(t *testing.T, s *Server) (udp, tcp string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- s.ServePacket(ctx, pc) }()
	go func() { ended <- s.ServeStream(ctx, l, func(net.Conn) netip.AddrPort { return netip.AddrPort{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	return pc.LocalAddr().String(), l.Addr().String()
}

func meshServer(forward func(context.Context, []byte, bool, netip.AddrPort) ([]byte, error)) *Server {
	v := stage()
	return &Server{
		Resolve: func(name string) (Answer, bool) {
			if name == "many.shop.svc.cluster.local." {
				a := Answer{Hostname: strings.TrimSuffix(name, ".")}
				for i := range 2000 {
					a.Addresses = append(a.Addresses, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
				}
				return a, true
			}
			return Resolve(v, Client{Network: "east", Namespace: "demo", Domain: "cluster.local"}, name)
		},
		Forward: forward,
	}
}

func TestServerAnswersFromTheMesh(t *testing.T) {
	s := meshServer(func(context.Context, []byte, bool, netip.AddrPort) ([]byte, error) {
		return nil, errors.New("no upstream")
	})
	udp, tcp := startServer(t, s)
	for _, tc := range []struct {
		name  string
		kind  uint16
		rcode int
		want  []string
	}{
		{"cart.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.96.0.1"}},
		{"cart.shop.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, []string{"AAAA fd00:96::1"}},
		{"cArT.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.96.0.1"}},
		{"cart.shop.svc.cluster.local.demo.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME cart.shop.svc.cluster.local.", "A 10.96.0.1"}},
		{"only-v4.shop.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"cart.shop.svc.cluster.local.", dns.TypeMX, dns.RcodeServerFailure, nil},
		{"elsewhere.example.", dns.TypeA, dns.RcodeServerFailure, nil},
	} {
		for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
			reply, _, err := (&dns.Client{Net: network}).Exchange(new(dns.Msg).SetQuestion(tc.name, tc.kind), addr)
			if err != nil {
				t.Errorf("%s over %s: %v", tc.name, network, err)
				continue
			}
			var got []string
			for _, rr := range reply.Answer {
				if rr.Header().Ttl != ttl {
					t.Errorf("%v: not for %d s", rr, ttl)
				}
				got = append(got, strings.Join(strings.Fields(rr.String())[3:], " "))
			}
			if reply.Rcode != tc.rcode || !slices.Equal(got, tc.want) {
				t.Errorf("%s %s over %s: %s %v, want %v", tc.name, dns.TypeToString[tc.kind], network, dns.RcodeToString[reply.Rcode], got, tc.want)
			}
		}
	}
}

func TestLongAnswersAreCut(t *testing.T) {
	udp, tcp := startServer(t, meshServer(nil))
	query := new(dns.Msg).SetQuestion("many.shop.svc.cluster.local.", dns.TypeA)
	reply, _, err := new(dns.Client).Exchange(query, udp)
	if err != nil || !reply.Truncated {
		t.Fatalf("over UDP: %v", err)
	}
	if reply.Compress = true; reply.Len() > dns.MinMsgSize { // as it was sent
		t.Errorf("over UDP: %d bytes", reply.Len())
	}
	reply, _, err = (&dns.Client{Net: "tcp"}).Exchange(query, tcp)
	if err != nil || reply.Truncated || len(reply.Answer) != maxAnswers {
		t.Errorf("over TCP: %d answers, %v", len(reply.Answer), err)
	}
}

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

func TestForwardPassesTheQueryOn(t *testing.T) {
	good := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(fmt.Sprintf("%s 5 IN TXT \"edns %v\"", q.Question[0].Name, q.IsEdns0() != nil))
		reply.Answer = []dns.RR{rr}
		// Somebody else's answers come first, and are passed over.
		forged := reply.Copy()
		forged.Id++
		w.WriteMsg(forged)
		other := reply.Copy()
		other.Question[0].Name = "evil.example."
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
			w.WriteMsg(other)
		}
		w.WriteMsg(reply)
	})
	f := &Forwarder{Servers: func() []netip.AddrPort { return []netip.AddrPort{good} }, Dial: dialUpstream}
	s := meshServer(f.Forward)
	udp, _ := startServer(t, s)
	query := new(dns.Msg).SetQuestion("elsewhere.example.", dns.TypeTXT).SetEdns0(1232, true)
	reply, _, err := new(dns.Client).Exchange(query, udp)
	if err != nil || reply.Id != query.Id || len(reply.Answer) != 1 || !strings.Contains(reply.Answer[0].String(), "edns true") {
		t.Errorf("got %v, %v", reply, err)
	}
}

func TestForwardGoesOnToTheNextServer(t *testing.T) {
	good := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError)) })
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	f := &Forwarder{Servers: func() []netip.AddrPort { return []netip.AddrPort{good} }, Dial: dialUpstream}
	query, err := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, tcp := range []bool{false, true} {
		answer, err := f.Forward(context.Background(), query, tcp, closed)
		var reply dns.Msg
		if err != nil || reply.Unpack(answer) != nil || reply.Rcode != dns.RcodeNameError {
			t.Errorf("tcp %v: %v, %v", tcp, reply, err)
		}
	}
	f.Servers = func() []netip.AddrPort { return nil }
	if _, err := f.Forward(context.Background(), query, false, netip.AddrPort{}); err == nil {
		t.Error("an answer from nowhere")
	}
	if _, err := f.Forward(context.Background(), query[:5], false, good); err == nil {
		t.Error("an answer to half a header")
	}
}

func TestForwardEndsWithItsContext(t *testing.T) {
	silent := upstream(t, func(dns.ResponseWriter, *dns.Msg) {})
	f := &Forwarder{Servers: func() []netip.AddrPort { return []netip.AddrPort{silent, silent, silent, silent} }, Dial: dialUpstream}
	query, _ := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := f.Forward(ctx, query, false, netip.AddrPort{}); err == nil || time.Since(began) > time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestNoAnswerToAnswers(t *testing.T) {
	s := meshServer(nil)
	reply, _ := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion("cart.shop.svc.cluster.local.", dns.TypeA)).Pack()
	for _, raw := range [][]byte{nil, {1}, reply, make([]byte, 11)} {
		if got := s.answer(context.Background(), raw, false, netip.AddrPort{}); got != nil {
			t.Errorf("%x was answered with %x", raw, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"cart.shop.svc.cluster.local.", "elsewhere.example.", "cart.shop.svc.cluster.local.demo.svc.cluster.local."} {
		raw, _ := new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(4096, true).Pack()
		f.Add(raw, false)
	}
	s := meshServer(func(_ context.Context, query []byte, _ bool, _ netip.AddrPort) ([]byte, error) {
		return nil, errors.New("none")
	})
	f.Fuzz(func(t *testing.T, raw []byte, tcp bool) {
		answer := s.answer(context.Background(), raw, tcp, netip.AddrPort{})
		if answer == nil {
			return
		}
		if len(answer) < headerSize || answer[0] != raw[0] || answer[1] != raw[1] || answer[2]&0x80 == 0 {
			t.Fatalf("%x was answered with %x", raw, answer)
		}
	})
}

func FuzzBelongs(f *testing.F) {
	query, _ := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
	f.Add(query, query)
	f.Fuzz(func(t *testing.T, query, answer []byte) {
		if len(query) >= headerSize && belongs(query, answer) && (answer[0] != query[0] || answer[1] != query[1]) {
			t.Fatal("another id belongs")
		}
	})
}
