// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"

	"github.com/miekg/dns"
)

const (
	// maxQuery is the longest query over UDP, and the longest question however it comes, in bytes. A question takes at most 300, and options a
	// few hundred. Updates over TCP may be longer.
	maxQuery = 4096
	// maxPacket is the longest answer over UDP that we take for a client, in bytes, however much it says that it takes. What is longer
	// is asked for again over TCP. It bounds the memory that one query holds.
	maxPacket = 4096
)

// Query is a client's query that is to be passed on.
type Query struct {
	// Raw are the client's own bytes, so that whatever it put into its query arrives.
	Raw []byte
	// TCP says how the client asked, and so how to ask on.
	TCP bool
	// Asked is the server that the client had asked, if that is known.
	Asked netip.AddrPort
	// Limit is how long an answer may be, in bytes.
	Limit int

	msg   dns.Msg
	found Found
	plain bool // it is a question, and nothing beside it that only this one means
}

// read judges the bytes of a query. If there is no query, it either says why, and whatever can be read is in its msg; or it gives nil,
// and nothing is to be said.
func read(raw []byte, tcp bool) (*Query, Reason) {
	if len(raw) < headerSize || raw[2]&0x80 != 0 {
		return nil, "" // an answer to an answer could be abused to hit somebody else, or go on for ever
	}
	q := &Query{Raw: raw, TCP: tcp, Limit: dns.MaxMsgSize}
	if !tcp {
		q.Limit = dns.MinMsgSize
	}
	// One question in each query (RFC 9619); an update has its zone there.
	if _, ok := questionEnd(raw); !ok || len(raw) > maxQuery && (!tcp || opcode(raw) == dns.OpcodeQuery) || q.msg.Unpack(raw) != nil {
		q.msg = dns.Msg{MsgHdr: dns.MsgHdr{Id: uint16(raw[0])<<8 | uint16(raw[1]), Opcode: opcode(raw), RecursionDesired: raw[2]&1 != 0}}
		return q, ReasonMalformed
	}
	// Only what an answer of ours needs is kept while the query waits: records say long names in two bytes, and take a hundred times the
	// memory of their message.
	var extensions []dns.RR
	q.plain = q.msg.Opcode == dns.OpcodeQuery && len(q.msg.Answer)+len(q.msg.Ns) == 0
	for _, rr := range q.msg.Extra {
		opt, ok := rr.(*dns.OPT)
		q.plain = q.plain && ok && len(opt.Option) == 0
		if ok {
			extensions = append(extensions, opt)
			if !tcp {
				q.Limit = min(max(q.Limit, int(opt.UDPSize())), maxPacket)
			}
		}
	}
	q.msg.Answer, q.msg.Ns, q.msg.Extra = nil, nil, extensions
	if len(extensions) > 1 {
		return q, ReasonMalformed // RFC 6891, section 6.1.1
	}
	if q.msg.Opcode == dns.OpcodeQuery {
		switch q.msg.Question[0].Qtype {
		case dns.TypeAXFR, dns.TypeIXFR:
			return q, ReasonTransfer
		}
	}
	return q, ""
}

// name is what was asked for, for people.
func (q *Query) name() string {
	if len(q.msg.Question) == 0 {
		return ""
	}
	return q.msg.Question[0].Name
}
