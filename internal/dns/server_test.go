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
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// startServer serves on loopback, by UDP and TCP on addresses of their own, and ends with the test, or with stop.
func startServer(t *testing.T, s *Server) (udp, tcp string, stop func()) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.Slots == nil {
		s.Slots = NewSlots(16, ReasonPodBusy, nil)
	}
	taking, stopTaking := context.WithCancel(context.Background())
	answering, stopAnswering := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		s.ServePacket(taking, answering, pc, func(net.Addr) netip.AddrPort { return netip.AddrPort{} })
	})
	running.Go(func() { s.ServeStream(taking, answering, l, func(net.Conn) netip.AddrPort { return netip.AddrPort{} }) })
	t.Cleanup(func() { stopTaking(); stopAnswering(); running.Wait() })
	return pc.LocalAddr().String(), l.Addr().String(), func() { stopTaking(); running.Wait() }
}

// meshServer answers from the stage, and calls forward for the rest.
func meshServer(forward func(context.Context, Query) ([]byte, error)) *Server {
	v := stage()
	return &Server{
		Resolve: func(name string) (Answer, Found) {
			if name == "many.shop.svc.cluster.local." {
				a := Answer{Hostname: strings.TrimSuffix(name, "."), TTL: podTTL}
				for i := range 2000 {
					a.Addresses = append(a.Addresses, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
				}
				return a, Known
			}
			return Resolve(v, testClient, name)
		},
		Forward: forward,
	}
}

// unknownUpstream knows no name.
func unknownUpstream(_ context.Context, q Query) ([]byte, error) {
	return new(dns.Msg).SetRcode(&q.msg, dns.RcodeNameError).Pack()
}

func exchange(t *testing.T, network, addr string, query *dns.Msg) *dns.Msg {
	t.Helper()
	reply, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: dns.MaxMsgSize}).Exchange(query, addr)
	if err != nil {
		t.Fatalf("%v over %s: %v", query.Question, network, err)
	}
	return reply
}

// records are an answer's, sorted, without what they all have.
func records(reply *dns.Msg) []string {
	var out []string
	for _, rr := range reply.Answer {
		out = append(out, strings.Join(strings.Fields(rr.String())[3:], " "))
	}
	slices.Sort(out)
	return out
}

func TestServerAnswers(t *testing.T) {
	udp, tcp, _ := startServer(t, meshServer(unknownUpstream))
	for _, tc := range []struct {
		name  string
		kind  uint16
		rcode int
		want  []string
		ttl   uint32
	}{
		{"cart.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.96.0.1"}, vipTTL},
		{"cart.shop.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, []string{"AAAA fd00:96::1"}, vipTTL},
		{"cart.shop.svc.cluster.local.", dns.TypeANY, dns.RcodeSuccess, []string{"A 10.96.0.1"}, vipTTL},
		{"cArT.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.96.0.1"}, vipTTL},
		{"cart.shop.svc.cluster.local.demo.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.96.0.1", "CNAME cart.shop.svc.cluster.local."}, vipTTL},
		{"headless.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.0.0.1", "A 10.0.0.4", "A 10.0.0.9"}, podTTL},
		{"web-0.headless.shop.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, []string{"AAAA fd00::1"}, podTTL},
		{"_https._tcp.cart.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, []string{"SRV 0 1 443 cart.shop.svc.cluster.local."}, vipTTL},
		{"_http._TCP.cart.shop.svc.cluster.local.demo.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, []string{
			"CNAME _http._tcp.cart.shop.svc.cluster.local.", "SRV 0 1 80 cart.shop.svc.cluster.local.", "SRV 0 1 8080 cart.shop.svc.cluster.local.",
		}, vipTTL},
		// Each ready pod's own port, where it has one; what has no name of its own is called by its address.
		{"_http._tcp.headless.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, []string{
			"SRV 0 1 8080 10-0-0-4.headless.shop.svc.cluster.local.", "SRV 0 1 8080 host.headless.shop.svc.cluster.local.",
			"SRV 0 1 8080 web-0.headless.shop.svc.cluster.local.", "SRV 0 1 8888 web-0.headless.shop.svc.cluster.local.",
		}, podTTL},
		{"_admin._tcp.headless.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, []string{"SRV 0 1 9000 web-0.headless.shop.svc.cluster.local."}, podTTL},
		{"_http._tcp.cart.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, nil, vipTTL},
		{"_http._tcp.empty.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, nil, podTTL},
		{"cart.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeSuccess, nil, vipTTL},
		{"_http._udp.cart.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeNameError, nil, 0},
		{"_ftp._tcp.cart.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeNameError, nil, 0},
		{"__tcp.cart.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeNameError, nil, 0},
		{"_._tcp.cart.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeNameError, nil, 0},
		{"_http._tcp.nobody.shop.svc.cluster.local.", dns.TypeSRV, dns.RcodeNameError, nil, 0},
		{"1.0.96.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{"PTR cart.shop.svc.cluster.local."}, vipTTL},
		// The name exists, whatever the server upstream says.
		{"only-v4.shop.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, nil, vipTTL},
		{"cart.shop.svc.cluster.local.", dns.TypeMX, dns.RcodeSuccess, nil, vipTTL},
		{"cart.shop.svc.cluster.local.", dns.TypeHTTPS, dns.RcodeSuccess, nil, vipTTL},
		{"far.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, nil, podTTL},
		{"empty.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, nil, podTTL},
		{"api.example.com.", dns.TypeAAAA, dns.RcodeSuccess, nil, vipTTL},
		// Somebody else's.
		{"api.example.com.", dns.TypeMX, dns.RcodeNameError, nil, 0},
		{"elsewhere.example.", dns.TypeA, dns.RcodeNameError, nil, 0},
		{"1.0.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, 0},
		{"far.shop.svc.cluster.local.demo.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil, 0},
	} {
		for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
			reply := exchange(t, network, addr, new(dns.Msg).SetQuestion(tc.name, tc.kind))
			if got := records(reply); reply.Rcode != tc.rcode || !slices.Equal(got, tc.want) {
				t.Errorf("%s %s over %s: %s %v, want %v", tc.name, dns.TypeToString[tc.kind], network, dns.RcodeToString[reply.Rcode], got, tc.want)
			}
			if tc.kind == dns.TypeSRV && (len(tc.want) > 0) != (len(reply.Extra) > 0) {
				t.Errorf("%s over %s: hosts' addresses %v", tc.name, network, reply.Extra)
			}
			for _, rr := range slices.Concat(reply.Answer, reply.Ns, reply.Extra) {
				if rr.Header().Ttl != tc.ttl {
					t.Errorf("%v: not for %d s", rr, tc.ttl)
				}
			}
			// Without the zone's record a negative answer must not be remembered (RFC 2308, section 5).
			if none := tc.rcode == dns.RcodeSuccess && tc.want == nil; none != (len(reply.Ns) == 1 && reply.Ns[0].(*dns.SOA).Minttl == tc.ttl) {
				t.Errorf("%s %s over %s: authority %v", tc.name, dns.TypeToString[tc.kind], network, reply.Ns)
			}
		}
	}
}

func TestLongAnswersAreCut(t *testing.T) {
	udp, tcp, _ := startServer(t, meshServer(nil))
	for _, tc := range []struct {
		network, addr string
		says          uint16 // in EDNS; 0 for none
		limit         int
		cut           bool
	}{
		{"udp", udp, 0, 512, true},
		{"udp", udp, 100, 512, true},
		{"udp", udp, 1232, 1232, true},
		{"udp", udp, 65535, maxPacket, true},
		{"tcp", tcp, 0, dns.MaxMsgSize, false},
		{"tcp", tcp, 512, dns.MaxMsgSize, false},
	} {
		query := new(dns.Msg).SetQuestion("many.shop.svc.cluster.local.", dns.TypeA)
		if tc.says > 0 {
			query.SetEdns0(tc.says, false)
		}
		reply := exchange(t, tc.network, tc.addr, query)
		reply.Compress = true // as it was sent
		if size := reply.Len(); reply.Truncated != tc.cut || size > tc.limit || tc.cut && size < tc.limit-32 || !tc.cut && len(reply.Answer) != maxAnswers {
			t.Errorf("%+v: %d bytes, %d answers, cut %v", tc, size, len(reply.Answer), reply.Truncated)
		}
	}
}

func TestExtensions(t *testing.T) {
	udp, _, _ := startServer(t, meshServer(func(context.Context, Query) ([]byte, error) { return nil, errNoServer }))
	const known, unknown = "cart.shop.svc.cluster.local.", "elsewhere.example."
	plain := exchange(t, "udp", udp, new(dns.Msg).SetQuestion(known, dns.TypeA))
	if plain.IsEdns0() != nil {
		t.Error("extensions for a client that has none")
	}
	query := new(dns.Msg).SetQuestion(known, dns.TypeA).SetEdns0(1232, true)
	query.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("?")}}
	reply := exchange(t, "udp", udp, query)
	if opt := reply.IsEdns0(); opt == nil || !opt.Do() || len(opt.Option) != 0 || opt.UDPSize() != maxQuery || len(reply.Answer) != 1 {
		t.Errorf("to an unknown option: %v", reply)
	}
	query = new(dns.Msg).SetQuestion(known, dns.TypeA).SetEdns0(1232, false)
	query.IsEdns0().SetVersion(1)
	if reply := exchange(t, "udp", udp, query); reply.Rcode != dns.RcodeBadVers || reply.IsEdns0().Version() != 0 {
		t.Errorf("to version 1: %v", reply)
	}
	query = new(dns.Msg).SetQuestion(known, dns.TypeA).SetEdns0(1232, false)
	query.Extra = append(query.Extra, query.Extra[0])
	if reply := exchange(t, "udp", udp, query); reply.Rcode != dns.RcodeFormatError {
		t.Errorf("to extensions twice: %v", reply)
	}
	reply = exchange(t, "udp", udp, new(dns.Msg).SetQuestion(unknown, dns.TypeA).SetEdns0(1232, false))
	if opt := reply.IsEdns0(); reply.Rcode != dns.RcodeServerFailure || opt == nil || len(opt.Option) != 1 {
		t.Errorf("a failure without its reason: %v", reply)
	} else if ede, ok := opt.Option[0].(*dns.EDNS0_EDE); !ok || ede.ExtraText != string(ReasonNoServer) {
		t.Errorf("a failure with another reason: %v", opt)
	}
}

// TestHostileQueries sends what no resolver would.
func TestHostileQueries(t *testing.T) {
	var mu sync.Mutex
	refused := map[Reason]int{}
	s := meshServer(func(context.Context, Query) ([]byte, error) { t.Error("was passed on"); return nil, errNoServer })
	s.Counters.Refused = func(why Reason, _ string, _ error) { mu.Lock(); defer mu.Unlock(); refused[why]++ }
	udp, tcp, _ := startServer(t, s)
	question := func(kind uint16) []byte {
		raw, err := new(dns.Msg).SetQuestion("elsewhere.example.", kind).Pack()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	with := func(raw []byte, change func([]byte) []byte) []byte { return change(slices.Clone(raw)) }
	answer := with(question(dns.TypeA), func(m []byte) []byte { m[2] |= 0x80; return m })
	for _, tc := range []struct {
		name  string
		raw   []byte
		rcode int // -1 for silence
	}{
		{"no bytes", nil, -1},
		{"half a header", make([]byte, 11), -1},
		{"an answer", answer, -1},
		{"a header alone", question(dns.TypeA)[:12], dns.RcodeFormatError},
		{"no question", make([]byte, 12), dns.RcodeFormatError},
		{"many questions", with(question(dns.TypeA), func(m []byte) []byte { m[4], m[5] = 0xff, 0xff; return m }), dns.RcodeFormatError},
		{"two questions", with(question(dns.TypeA), func(m []byte) []byte { m[5] = 2; return append(m, m[12:]...) }), dns.RcodeFormatError},
		{"a name that points to itself", with(question(dns.TypeA)[:12], func(m []byte) []byte { return append(m, 0xc0, 12, 0, 1, 0, 1) }), dns.RcodeFormatError},
		{"a name of 300 bytes", with(question(dns.TypeA)[:12], func(m []byte) []byte {
			for range 5 {
				m = append(append(m, 59), strings.Repeat("a", 59)...)
			}
			return append(m, 0, 0, 1, 0, 1)
		}), dns.RcodeFormatError},
		{"a record whose name points forward", with(question(dns.TypeA), func(m []byte) []byte { m[11] = 1; return append(m, 0xc0, 0xff, 0, 1, 0, 1) }), dns.RcodeFormatError},
		{"a transfer", question(dns.TypeAXFR), dns.RcodeRefused},
		{"a partial transfer", question(dns.TypeIXFR), dns.RcodeRefused},
	} {
		for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
			nc, err := net.Dial(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			nc.SetDeadline(time.Now().Add(5 * time.Second))
			co := &dns.Conn{Conn: nc, UDPSize: 4096}
			if network == "tcp" && tc.raw == nil {
				nc.Write([]byte{0, 0})
			} else if _, err := co.Write(tc.raw); err != nil {
				t.Fatal(err)
			}
			if tc.rcode < 0 && network == "udp" {
				// That it stays silent shows in the answer to what follows.
				co.WriteMsg(new(dns.Msg).SetQuestion("cart.shop.svc.cluster.local.", dns.TypeA))
				if reply, err := co.ReadMsg(); err != nil || len(reply.Answer) != 1 {
					t.Errorf("%s: %v, %v", tc.name, reply, err)
				}
			} else if reply, err := co.ReadMsg(); tc.rcode < 0 != (err != nil) || err == nil && (reply.Rcode != tc.rcode || reply.Id != uint16(tc.raw[0])<<8|uint16(tc.raw[1])) {
				t.Errorf("%s over %s: %v, %v", tc.name, network, reply, err)
			}
			nc.Close()
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if refused[ReasonMalformed] != 14 || refused[ReasonTransfer] != 4 {
		t.Errorf("counted: %v", refused)
	}
}

// TestDeadUpstreamDelaysNothingOfOurs fills all slots with queries that nobody answers.
func TestDeadUpstreamDelaysNothingOfOurs(t *testing.T) {
	release := make(chan struct{})
	waiting := make(chan struct{}, 100)
	s := meshServer(func(ctx context.Context, q Query) ([]byte, error) {
		waiting <- struct{}{}
		select {
		case <-release:
			return unknownUpstream(ctx, q)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	all := NewSlots(3, ReasonNodeBusy, nil)
	s.Slots = NewSlots(2, ReasonPodBusy, all)
	var mu sync.Mutex
	var refused []string
	s.Counters.Refused = func(why Reason, name string, _ error) {
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, string(why)+" "+name)
	}
	udp, tcp, _ := startServer(t, s)
	open := func(network, addr string) *dns.Conn {
		co, err := dns.DialTimeout(network, addr, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { co.Close() })
		co.SetDeadline(time.Now().Add(10 * time.Second))
		return co
	}
	packets, stream := open("udp", udp), open("tcp", tcp)
	for _, co := range []*dns.Conn{packets, stream} {
		if err := co.WriteMsg(new(dns.Msg).SetQuestion("slow.example.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		<-waiting
	}
	for _, co := range []*dns.Conn{packets, stream} { // on the very connection that has a query waiting, too
		query := new(dns.Msg).SetQuestion("cart.shop.svc.cluster.local.", dns.TypeA)
		co.WriteMsg(query)
		if reply, err := co.ReadMsg(); err != nil || reply.Id != query.Id || len(reply.Answer) != 1 {
			t.Errorf("a name of ours: %v, %v", reply, err)
		}
		query = new(dns.Msg).SetQuestion("more.example.", dns.TypeA)
		co.WriteMsg(query)
		if reply, err := co.ReadMsg(); err != nil || reply.Id != query.Id || reply.Rcode != dns.RcodeServerFailure {
			t.Errorf("one too many: %v, %v", reply, err)
		}
	}
	// Another pod has slots of its own, and shares the node's.
	other := meshServer(s.Forward)
	other.Slots = NewSlots(2, ReasonPodBusy, all)
	other.Counters = s.Counters
	udp, _, _ = startServer(t, other)
	packets2 := open("udp", udp)
	packets2.WriteMsg(new(dns.Msg).SetQuestion("slow.example.", dns.TypeA))
	<-waiting
	packets2.WriteMsg(new(dns.Msg).SetQuestion("last.example.", dns.TypeA))
	if reply, err := packets2.ReadMsg(); err != nil || reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("one too many for the node: %v, %v", reply, err)
	}
	close(release)
	for _, co := range []*dns.Conn{packets, stream, packets2} {
		if reply, err := co.ReadMsg(); err != nil || reply.Rcode != dns.RcodeNameError {
			t.Errorf("what waited: %v, %v", reply, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"POD_LIMIT more.example.", "POD_LIMIT more.example.", "NODE_LIMIT last.example."}; !slices.Equal(refused, want) {
		t.Errorf("refused %q, want %q", refused, want)
	}
	// All slots came back.
	for range 3 {
		if why := all.take(); why != "" {
			t.Fatalf("a slot was not given back: %s", why)
		}
	}
}

// TestWhatWasTakenIsAnswered ends a server while a query waits for upstream: the answer still arrives, and nothing new is taken.
func TestWhatWasTakenIsAnswered(t *testing.T) {
	release, waiting := make(chan struct{}), make(chan struct{}, 2)
	s := meshServer(func(ctx context.Context, q Query) ([]byte, error) {
		waiting <- struct{}{}
		<-release
		return unknownUpstream(ctx, q)
	})
	udp, tcp, stop := startServer(t, s)
	var clients []*dns.Conn
	for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
		co, err := dns.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer co.Close()
		co.SetDeadline(time.Now().Add(10 * time.Second))
		co.WriteMsg(new(dns.Msg).SetQuestion("slow.example.", dns.TypeA))
		<-waiting
		clients = append(clients, co)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); stop() }()
	for { // until it takes no more
		nc, err := net.Dial("tcp", tcp)
		if err != nil {
			break
		}
		nc.Close()
	}
	select {
	case <-ended:
		t.Error("it ended without its answers")
	default:
	}
	close(release)
	for _, co := range clients {
		if reply, err := co.ReadMsg(); err != nil || reply.Rcode != dns.RcodeNameError {
			t.Errorf("%v, %v", reply, err)
		}
	}
	<-ended
}

func TestTooManyConnections(t *testing.T) {
	refused := make(chan Reason, 1)
	s := meshServer(nil)
	s.Counters.Refused = func(why Reason, _ string, _ error) { refused <- why }
	_, tcp, _ := startServer(t, s)
	for range maxConnections + 1 {
		nc, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	select {
	case why := <-refused:
		if why != ReasonConnections {
			t.Error(why)
		}
	case <-time.After(5 * time.Second):
		t.Error("none was refused")
	}
}

func TestFailuresHaveReasons(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Reason
	}{
		{errNoServer, ReasonNoServer},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), ReasonTimeout},
		{&net.OpError{Op: "read", Err: context.DeadlineExceeded}, ReasonTimeout},
		{errors.New("connection refused"), ReasonUpstream},
	} {
		var got Reason
		s := meshServer(func(context.Context, Query) ([]byte, error) { return nil, tc.err })
		s.Counters.Refused = func(why Reason, _ string, err error) {
			if got = why; !errors.Is(err, tc.err) {
				t.Errorf("%v became %v", tc.err, err)
			}
		}
		udp, _, stop := startServer(t, s)
		if reply := exchange(t, "udp", udp, new(dns.Msg).SetQuestion("a.example.", dns.TypeA)); reply.Rcode != dns.RcodeServerFailure {
			t.Errorf("%v: %v", tc.err, reply)
		}
		if stop(); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.err, got, tc.want)
		}
	}
}
