// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// maxAnswers bounds the records of one answer, so that a headless service with thousands of endpoints stays a message.
const maxAnswers = 512

// covers says whether the answer settles a question of this type: it has the records, or knows that there are none.
func (a *Answer) covers(kind uint16) bool {
	switch {
	case a.Pointer != "":
		return kind == dns.TypePTR
	case a.Partial:
		return kind == dns.TypeA || kind == dns.TypeAAAA
	}
	return true
}

// reply makes the answer's message. A type that the answer lacks is answered with no record, and with what says for how long (RFC 2308,
// section 2.2): the name exists.
func (q *Query) reply(a Answer) *dns.Msg {
	reply := q.blank(dns.RcodeSuccess)
	reply.Authoritative = true
	asked := q.msg.Question[0]
	owner := asked.Name
	if full := a.Hostname + "."; a.Hostname != "" && !strings.EqualFold(full, owner) {
		reply.Answer = append(reply.Answer, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME, a.TTL), Target: full})
		owner = full
	}
	before := len(reply.Answer)
	switch asked.Qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeANY:
		// To a question for anything, one kind of record is an answer (RFC 8482, section 4.1).
		reply.Answer = addresses(reply.Answer, owner, asked.Qtype, a.TTL, a.Addresses)
	case dns.TypeSRV:
		reply.Answer, reply.Extra = targets(reply.Answer, reply.Extra, owner, a.TTL, a.Targets)
	case dns.TypePTR:
		if a.Pointer != "" {
			reply.Answer = append(reply.Answer, &dns.PTR{Hdr: header(owner, dns.TypePTR, a.TTL), Ptr: a.Pointer + "."})
		}
	}
	if len(reply.Answer) == before {
		q.none(reply, a.TTL)
	}
	reply.Truncate(q.Limit)
	return reply
}

// addresses appends those of the wanted family to records, in a random order.
func addresses(records []dns.RR, owner string, kind uint16, ttl uint32, all []netip.Addr) []dns.RR {
	v4 := kind == dns.TypeA || kind == dns.TypeANY && len(all) > 0 && all[0].Is4()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, addr := range all {
		switch {
		case len(records) >= maxAnswers:
			return records
		case v4 && addr.Is4():
			records = append(records, &dns.A{Hdr: header(owner, dns.TypeA, ttl), A: addr.AsSlice()})
		case !v4 && addr.Is6():
			records = append(records, &dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: addr.AsSlice()})
		}
	}
	return records
}

// targets appends to records where a port is found, in a random order, and to extra the addresses of those hosts.
func targets(records, extra []dns.RR, owner string, ttl uint32, all []Target) (answer, additional []dns.RR) {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, t := range all {
		if len(records) >= maxAnswers {
			break
		}
		host := t.Host + "."
		records = append(records, &dns.SRV{Hdr: header(owner, dns.TypeSRV, ttl), Weight: 1, Port: t.Port, Target: host})
		extra = addresses(extra, host, dns.TypeA, ttl, t.Addresses)
		extra = addresses(extra, host, dns.TypeAAAA, ttl, t.Addresses)
	}
	return records, extra
}

// none says in reply for how many seconds clients may remember that there is no record of the kind asked for.
func (q *Query) none(reply *dns.Msg, ttl uint32) {
	zone := "."
	if labels := dns.SplitDomainName(q.msg.Question[0].Name); len(labels) > 1 {
		zone = strings.ToLower(strings.Join(labels[1:], ".")) + "."
	}
	reply.Ns = append(reply.Ns, &dns.SOA{
		Hdr: header(zone, dns.TypeSOA, ttl), Ns: zone, Mbox: "hostmaster." + strings.TrimPrefix(zone, "."), Serial: 1,
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	})
}

// refusal makes the message that tells a client why it gets nothing.
func (q *Query) refusal(why Reason) *dns.Msg {
	reply := q.blank(why.rcode())
	if opt := reply.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, why.detail())
	}
	return reply
}

// cut makes the message that sends a client to TCP.
func (q *Query) cut() *dns.Msg {
	reply := q.blank(dns.RcodeSuccess)
	reply.Truncated = true
	return reply
}

// blank makes a message without records. Options that the client sent, known or not, need no answer (RFC 6891, section 6.1.2).
func (q *Query) blank(rcode int) *dns.Msg {
	reply := &dns.Msg{
		MsgHdr: dns.MsgHdr{
			Id: q.msg.Id, Response: true, Opcode: q.msg.Opcode, RecursionDesired: q.msg.RecursionDesired, RecursionAvailable: true,
			CheckingDisabled: q.msg.CheckingDisabled, Rcode: rcode,
		},
		Compress: true, Question: q.msg.Question,
	}
	if opt := q.msg.IsEdns0(); opt != nil {
		reply.SetEdns0(maxQuery, opt.Do())
	}
	return reply
}

func header(owner string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}
