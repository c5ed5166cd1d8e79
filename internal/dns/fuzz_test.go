// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"errors"
	"testing"

	"github.com/miekg/dns"
)

// FuzzTake gives a server any bytes: what it says has the query's id, is an answer, can be read, and fits.
func FuzzTake(f *testing.F) {
	for _, name := range []string{
		"cart.shop.svc.cluster.local.", "elsewhere.example.", "cart.shop.svc.cluster.local.demo.svc.cluster.local.", "many.shop.svc.cluster.local.",
		"web-0.headless.shop.svc.cluster.local.", "_http._tcp.headless.shop.svc.cluster.local.", "1.0.96.10.in-addr.arpa.", "far.shop.svc.cluster.local.",
	} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeANY, dns.TypePTR, dns.TypeSRV, dns.TypeAXFR} {
			raw, _ := new(dns.Msg).SetQuestion(name, kind).SetEdns0(4096, true).Pack()
			f.Add(raw, false)
			f.Add(raw, true)
		}
	}
	s := meshServer(nil)
	s.Slots = NewSlots(1, ReasonPodBusy, nil)
	f.Fuzz(func(t *testing.T, raw []byte, tcp bool) {
		q, answer := s.take(raw, tcp)
		if q != nil {
			if answer != nil {
				t.Fatal("both passed on and answered")
			}
			s.Slots.give()
			answer = s.refuse(q, ReasonTimeout, errors.New("none"))
			if answer == nil {
				t.Fatal("a query that was passed on has no answer")
			}
		}
		if answer == nil {
			return
		}
		var reply dns.Msg
		if err := reply.Unpack(answer); err != nil || answer[0] != raw[0] || answer[1] != raw[1] || !reply.Response {
			t.Fatalf("%x was answered with %x: %v", raw, answer, err)
		}
		if !tcp && len(answer) > maxPacket {
			t.Fatalf("%d bytes over UDP", len(answer))
		}
	})
}

func FuzzBelongs(f *testing.F) {
	query, _ := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
	answer, _ := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion("a.example.", dns.TypeA)).Pack()
	f.Add(query, query)
	f.Add(query, append(query[:2:2], answer[2:]...))
	f.Fuzz(func(t *testing.T, query, answer []byte) {
		if !belongs(query, answer) {
			return
		}
		if answer[0] != query[0] || answer[1] != query[1] || answer[2]&0x80 == 0 {
			t.Fatal("another id, or a question, belongs")
		}
		var q, a dns.Msg
		if q.Unpack(query) != nil || a.Unpack(answer) != nil || len(a.Question) == 0 {
			return
		}
		if len(q.Question) != 1 || len(a.Question) != 1 || dns.CanonicalName(q.Question[0].Name) != dns.CanonicalName(a.Question[0].Name) ||
			q.Question[0].Qtype != a.Question[0].Qtype || q.Question[0].Qclass != a.Question[0].Qclass {
			t.Fatalf("%v belongs to %v", a.Question, q.Question)
		}
	})
}

func FuzzReversed(f *testing.F) {
	for _, addr := range []string{"10.96.0.1", "fd00:96::1"} {
		name, _ := dns.ReverseAddr(addr)
		f.Add(name[:len(name)-1])
	}
	f.Add("0.0.0.0.0.0.0.0.0.0.0.00....000.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa") // right in length and in the number of parts
	f.Fuzz(func(t *testing.T, name string) {
		addr, ok := reversed(name)
		if !ok {
			return
		}
		if again, err := dns.ReverseAddr(addr.String()); addr.Is4In6() || err != nil || dns.CanonicalName(again) == dns.CanonicalName(name) {
			return
		}
		t.Fatalf("%q is %v", name, addr)
	})
}
