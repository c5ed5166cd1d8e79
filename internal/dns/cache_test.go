// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// cachedServer answers by handle what the mesh does not know, and says how often that was asked.
func cachedServer(handle func(q *dns.Msg) *dns.Msg) (s *Server, asked, cached *int) {
	asked, cached = new(int), new(int)
	s = meshServer(nil)
	s.Slots = NewSlots(10, ReasonPodBusy, nil)
	s.Cache = NewCache()
	s.Counters.Cached = func() { *cached++ }
	s.Forward = func(_ context.Context, q Query) ([]byte, error) {
		*asked++
		m := new(dns.Msg)
		if err := m.Unpack(q.Raw); err != nil {
			return nil, err
		}
		return handle(m).Pack()
	}
	return s, asked, cached
}

// tell has a server answer a query, which it passes on or finds in its cache.
func tell(t *testing.T, s *Server, m *dns.Msg, from string, tcp bool) *dns.Msg {
	t.Helper()
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q, said := s.take(raw, tcp)
	if q == nil {
		t.Fatalf("not passed on, but answered with %x", said)
	}
	q.Asked = netip.MustParseAddrPort(from)
	answer := new(dns.Msg)
	if err := answer.Unpack(s.pass(t.Context(), q)); err != nil {
		t.Fatal(err)
	}
	if answer.Id != m.Id {
		t.Fatalf("the answer to query %d has id %d", m.Id, answer.Id)
	}
	return answer
}

func rrs(t *testing.T, texts ...string) (all []dns.RR) {
	t.Helper()
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	return all
}

const (
	one, two = "192.0.2.53:53", "192.0.2.54:53"
	foreign  = "www.elsewhere.example."
)

// TestCacheKeepsWhatItMay asks the same twice, and says for how many seconds the second one is not asked of the server; 0: it is at once.
func TestCacheKeepsWhatItMay(t *testing.T) {
	soa := "elsewhere.example. 60 IN SOA ns.elsewhere.example. root.elsewhere.example. 1 2 3 4 20"
	for name, c := range map[string]struct {
		kind       uint16
		rcode      int
		answer, ns []string
		extra      []string
		change     func(*dns.Msg) // of the answer
		query      func(*dns.Msg)
		keeps      int
	}{
		"an address":                              {answer: []string{foreign + " 30 IN A 192.0.2.1"}, keeps: 30},
		"several, the shortest counts":            {answer: []string{foreign + " 30 IN A 192.0.2.1", foreign + " 7 IN A 192.0.2.2"}, keeps: 7},
		"an alias, which counts, too":             {answer: []string{foreign + " 5 IN CNAME b.elsewhere.example.", "b.elsewhere.example. 300 IN A 192.0.2.1"}, keeps: 5},
		"what is said beside it counts, too":      {answer: []string{foreign + " 30 IN A 192.0.2.1"}, extra: []string{"ns.elsewhere.example. 3 IN A 192.0.2.9"}, keeps: 3},
		"with EDNS":                               {query: func(m *dns.Msg) { m.SetEdns0(1232, false) }, answer: []string{foreign + " 30 IN A 192.0.2.1"}, keeps: 30},
		"no such name":                            {rcode: dns.RcodeNameError, ns: []string{soa}, keeps: 20},
		"no such name, for less than its zone":    {rcode: dns.RcodeNameError, ns: []string{strings.Replace(soa, " 60 ", " 9 ", 1)}, keeps: 9},
		"nothing of that type":                    {kind: dns.TypeAAAA, ns: []string{soa}, keeps: 20},
		"an alias of nothing":                     {answer: []string{foreign + " 5 IN CNAME b.elsewhere.example."}, ns: []string{soa}, keeps: 5},
		"no such name, for nobody knows how long": {rcode: dns.RcodeNameError},
		"nothing, for nobody knows how long":      {},
		"an alias, without what it is of":         {answer: []string{foreign + " 5 IN CNAME b.elsewhere.example."}},
		"for this once":                           {answer: []string{foreign + " 0 IN A 192.0.2.1"}},
		"a TTL that is none":                      {answer: []string{foreign + " 2147483648 IN A 192.0.2.1"}},
		"a failure":                               {rcode: dns.RcodeServerFailure},
		"a refusal":                               {rcode: dns.RcodeRefused, answer: []string{foreign + " 30 IN A 192.0.2.1"}},
		"cut short":                               {answer: []string{foreign + " 30 IN A 192.0.2.1"}, change: func(m *dns.Msg) { m.Truncated = true }},
		"a failure that only EDNS tells":          {query: func(m *dns.Msg) { m.SetEdns0(1232, false) }, answer: []string{foreign + " 30 IN A 192.0.2.1"}, change: func(m *dns.Msg) { m.Rcode = dns.RcodeBadCookie; m.SetEdns0(1232, false) }},
		"with options": {query: func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
		}, answer: []string{foreign + " 30 IN A 192.0.2.1"}},
		"with something beside the question": {query: func(m *dns.Msg) {
			m.Extra = append(m.Extra, &dns.TXT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeTXT, Class: dns.ClassANY}})
		}, answer: []string{foreign + " 30 IN A 192.0.2.1"}},
		"a status": {query: func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }, answer: []string{foreign + " 30 IN A 192.0.2.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, asked, cached := cachedServer(func(q *dns.Msg) *dns.Msg {
					m := new(dns.Msg).SetRcode(q, c.rcode)
					m.Authoritative = true
					m.Answer, m.Ns, m.Extra = rrs(t, c.answer...), rrs(t, c.ns...), rrs(t, c.extra...)
					if c.change != nil {
						c.change(m)
					}
					return m
				})
				kind := c.kind
				if kind == 0 {
					kind = dns.TypeA
				}
				m := new(dns.Msg).SetQuestion(foreign, kind)
				if c.query != nil {
					c.query(m)
				}
				first := tell(t, s, m, one, false)
				ask := func(want int, why string) *dns.Msg {
					t.Helper()
					m.Id++
					again := tell(t, s, m, one, false)
					if *asked != want {
						t.Fatalf("%s: the server was asked %d times, want %d", why, *asked, want)
					}
					return again
				}
				if c.keeps == 0 {
					ask(2, "at once")
					return
				}
				if again := ask(1, "at once"); again.Authoritative || len(again.Answer) != len(first.Answer) || again.Rcode != first.Rcode {
					t.Errorf("what is kept of\n%v\nis\n%v", first, again)
				}
				time.Sleep(time.Duration(c.keeps)*time.Second - time.Millisecond)
				again := ask(1, "at the end")
				for i, rr := range sections(again) {
					was := sections(first)[i]
					if want := was.Header().Ttl - uint32(c.keeps-1); rr.Header().Ttl != want && rr.Header().Rrtype != dns.TypeOPT {
						t.Errorf("after %d seconds %v is %v", c.keeps-1, was, rr)
					}
				}
				time.Sleep(time.Millisecond)
				ask(2, "when its time is over")
				if *cached != 2 {
					t.Errorf("%d answers of the cache are counted, want 2", *cached)
				}
			})
		})
	}
}

// TestCacheTellsQuestionsApart: whatever differs is asked for.
func TestCacheTellsQuestionsApart(t *testing.T) {
	s, asked, _ := cachedServer(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Answer = rrs(t, q.Question[0].Name+" 30 IN A 192.0.2.1", q.Question[0].Name+" 30 IN AAAA 2001:db8::1")
		return m
	})
	question := func() *dns.Msg { return new(dns.Msg).SetQuestion(foreign, dns.TypeA) }
	tell(t, s, question(), one, false)
	for i, other := range []func(){
		func() { tell(t, s, question(), two, false) },
		func() { tell(t, s, question(), one, true) },
		func() { tell(t, s, new(dns.Msg).SetQuestion(foreign, dns.TypeAAAA), one, false) },
		func() { tell(t, s, new(dns.Msg).SetQuestion("WWW.elsewhere.example.", dns.TypeA), one, false) },
		func() { tell(t, s, new(dns.Msg).SetQuestion("other.elsewhere.example.", dns.TypeA), one, false) },
		func() { m := question(); m.CheckingDisabled = true; tell(t, s, m, one, false) },
		func() { m := question(); m.RecursionDesired = false; tell(t, s, m, one, false) },
		func() { tell(t, s, question().SetEdns0(1232, true), one, false) },
		func() { tell(t, s, question().SetEdns0(4096, true), one, false) },
	} {
		for range 2 {
			other()
		}
		if *asked != i+2 {
			t.Fatalf("after %d different questions, each asked twice, the server was asked %d times", i+2, *asked)
		}
	}
}

// TestCacheIsBounded: what was asked for longest ago has to go, and what is long is not kept.
func TestCacheIsBounded(t *testing.T) {
	texts := 1
	s, asked, _ := cachedServer(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		for range texts {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 30}, Txt: []string{strings.Repeat("x", 200)}})
		}
		return m
	})
	name := func(i int) *dns.Msg {
		return new(dns.Msg).SetQuestion(strings.Repeat("a", i%60+1)+"."+strings.Repeat("b", i/60+1)+".elsewhere.example.", dns.TypeTXT)
	}
	for i := range keptAnswers + 1 {
		tell(t, s, name(i), one, true)
	}
	if n := s.Cache.turns.Len(); n != keptAnswers || len(s.Cache.places) != n {
		t.Errorf("%d answers are kept, want %d", n, keptAnswers)
	}
	*asked = 0
	tell(t, s, name(1), one, true)
	tell(t, s, name(0), one, true)
	if *asked != 1 {
		t.Errorf("%d of the oldest two were asked for again, want the oldest", *asked)
	}
	texts, *asked = 6, 0
	for range 2 {
		tell(t, s, name(1000), one, true)
	}
	if *asked != 2 {
		t.Errorf("a long answer was asked for %d times, want twice", *asked)
	}
}

// FuzzLifetime ages any answer that may be kept by as long as it may be: all of its TTLs, and nothing else of its records, are less by that.
func FuzzLifetime(f *testing.F) {
	for _, text := range []string{foreign + " 30 IN A 192.0.2.1", foreign + " 5 IN CNAME b.elsewhere.example.", foreign + " 300 IN TXT \"a\" \"b\"", foreign + " 9 IN SRV 1 2 3 b.elsewhere.example."} {
		m := new(dns.Msg).SetQuestion(foreign, dns.TypeA).SetEdns0(1232, true)
		m.Response, m.Compress = true, true
		rr, _ := dns.NewRR(text)
		m.Question[0].Qtype, m.Answer = rr.Header().Rrtype, []dns.RR{rr}
		raw, _ := m.Pack()
		f.Add(raw)
		m.Rcode, m.Answer = dns.RcodeNameError, nil
		soa, _ := dns.NewRR("elsewhere.example. 60 IN SOA ns.elsewhere.example. root.elsewhere.example. 1 2 3 4 20")
		m.Ns = []dns.RR{soa}
		raw, _ = m.Pack()
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		ttls, least, ok := lifetime(raw)
		if !ok || least == 0 {
			return
		}
		var before, after dns.Msg
		if before.Unpack(raw) != nil {
			return // what cannot be read may be kept: it is told as it came
		}
		aged := bytes.Clone(raw)
		for _, at := range ttls {
			ttl := binary.BigEndian.Uint32(aged[at:])
			if ttl < least {
				t.Fatalf("%v is kept for %d seconds", &before, least)
			}
			binary.BigEndian.PutUint32(aged[at:], ttl-least)
		}
		if after.Unpack(aged) != nil {
			return // only where a name points into a TTL, which nobody's does
		}
		was, is := sections(&before), sections(&after)
		for i, rr := range was {
			if rr.Header().Name != is[i].Header().Name {
				return // the same
			}
			if rr.Header().Rrtype != dns.TypeOPT {
				rr.Header().Ttl -= least
			}
			if *rr.Header() != *is[i].Header() {
				t.Fatalf("%v\nbecame\n%v", rr, is[i])
			}
		}
	})
}

// sections are all records of a message.
func sections(m *dns.Msg) []dns.RR { return slices.Concat(m.Answer, m.Ns, m.Extra) }
