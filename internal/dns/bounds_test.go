// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"
)

// swollen is a message of nearly 64 KiB that says the longest name in two bytes, again and again: read, it is many times as large.
func swollen(t *testing.T, opcode int) []byte {
	t.Helper()
	label := strings.Repeat("\x01", 62)
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: 7, Opcode: opcode}, Question: []dns.Question{{Name: "x.", Qtype: dns.TypeSOA, Qclass: dns.ClassINET}}}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	name := raw[headerSize:len(raw):len(raw)]
	long := []byte{}
	for range 3 {
		long = append(append(long, byte(len(label))), label...)
	}
	long = append(long, 0)
	raw = append(append(raw[:headerSize:headerSize], long...), name[len(name)-4:]...)
	const records = 5000
	raw[10], raw[11] = records>>8, records&0xff
	for range records { // at the question's name, an A record of class NONE without data: "delete it"
		raw = append(raw, 0xc0, headerSize, 0, 1, 0, 254, 0, 0, 0, 0, 0, 0)
	}
	return raw
}

// TestAQueryHoldsLittle: while a query waits for its server, at most its own bytes are kept, and of a question not even many of those.
func TestAQueryHoldsLittle(t *testing.T) {
	q, why := read(swollen(t, dns.OpcodeUpdate), true)
	if q == nil || why != "" {
		t.Fatalf("an update is refused as %q", why)
	}
	if n := len(q.msg.Answer) + len(q.msg.Ns) + len(q.msg.Extra); n != 0 || len(q.msg.Question) != 1 {
		t.Errorf("%d records of an update are kept, and %d questions", n, len(q.msg.Question))
	}
	if _, why := read(swollen(t, dns.OpcodeQuery), true); why != ReasonMalformed {
		t.Errorf("a question of 60 KB is refused as %q", why)
	}
	raw, err := new(dns.Msg).SetQuestion("x.example.", dns.TypeA).SetEdns0(1232, true).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if q, why := read(raw, true); why != "" || q.msg.IsEdns0() == nil {
		t.Errorf("what must be answered of a usual question is lost: %v, %q", q, why)
	}
}

// TestLargeQueriesTakeTurns: one connection has one large message on the way at a time, and small ones beside each other.
func TestLargeQueriesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var small, large atomic.Int32
		release := make(chan struct{})
		s := meshServer(func(_ context.Context, q Query) ([]byte, error) {
			if len(q.Raw) > maxQuery {
				large.Add(1)
			} else {
				small.Add(1)
			}
			<-release
			return pack(q.blank(dns.RcodeSuccess)), nil
		})
		s.Slots = NewSlots(16, ReasonPodBusy, nil)
		client, server := net.Pipe()
		defer client.Close()
		served := make(chan struct{})
		go func() {
			defer close(served)
			s.serveConn(t.Context(), t.Context(), server, func(net.Conn) netip.AddrPort { return netip.AddrPort{} })
		}()
		question, err := new(dns.Msg).SetQuestion("x.example.", dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		update := swollen(t, dns.OpcodeUpdate)
		go func() {
			for _, m := range [][]byte{question, question, question, update, update} {
				if writeMessage(client, m) != nil {
					return // the reader below sees it
				}
			}
		}()
		synctest.Wait()
		if small.Load() != 3 || large.Load() != 1 {
			t.Errorf("%d small messages of one connection are on the way at once, and %d large ones", small.Load(), large.Load())
		}
		close(release)
		for range 5 {
			if _, err := readMessage(client); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		<-served
	})
}
