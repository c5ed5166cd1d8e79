// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Match is one condition of a rule.
type Match interface {
	fmt.Stringer // as nft writes it
	expressions() []expr.Any
}

// Action is what a rule does with a packet that matches.
type Action interface {
	fmt.Stringer // as nft writes it
	expressions() []expr.Any
}

// term is a Match or an Action: its text, and what the kernel is told.
type term struct {
	text string
	code []expr.Any
}

func (t term) String() string          { return t.text }
func (t term) expressions() []expr.Any { return t.code }

type relation bool

const (
	equal    relation = true
	notEqual relation = false
)

func (r relation) op() expr.CmpOp {
	if r == equal {
		return expr.CmpOpEq
	}
	return expr.CmpOpNeq
}

// sign is "!= " or nothing: nft leaves the equal sign out before values.
func (r relation) sign() string {
	if r == equal {
		return ""
	}
	return "!= "
}

// Everything computes in register 1.
const register = 1

func compare(r relation, data []byte) *expr.Cmp {
	return &expr.Cmp{Op: r.op(), Register: register, Data: data}
}

// native is a number as the kernel keeps marks and zones: in the machine's order. Ports and addresses are in the network's.
func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func port(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func protocol(name string, number byte) term {
	return term{"meta l4proto " + name, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		compare(equal, []byte{number}),
	}}
}

var (
	tcp = protocol("tcp", unix.IPPROTO_TCP)
	udp = protocol("udp", unix.IPPROTO_UDP)
)

func masked(mask, xor uint32) *expr.Bitwise {
	return &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: native(mask), Xor: native(xor)}
}

// mark compares the low bits of the packet's mark.
func mark(r relation, v uint32) Match {
	sign := "=="
	if r == notEqual {
		sign = "!="
	}
	return term{fmt.Sprintf("meta mark & 0x%08x %s 0x%08x", markMask, sign, v), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register}, masked(markMask, 0), compare(r, native(v)),
	}}
}

// connectionMark compares the low bits of the connection's mark.
func connectionMark(v uint32) Match {
	return term{fmt.Sprintf("ct mark & 0x%08x == 0x%08x", markMask, v), []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: register}, masked(markMask, 0), compare(equal, native(v)),
	}}
}

// address compares an address in the network header; it also matches the family.
func address(r relation, field string, offset4, offset6 uint32, a netip.Addr) Match {
	family, proto, offset := "ip", byte(unix.NFPROTO_IPV4), offset4
	if a.Is6() {
		family, proto, offset = "ip6", unix.NFPROTO_IPV6, offset6
	}
	return term{fmt.Sprintf("%s %s %s%s", family, field, r.sign(), a), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, compare(equal, []byte{proto}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen() / 8)},
		compare(r, a.AsSlice()),
	}}
}

// The offsets are those of RFC 791 section 3.1 and RFC 8200 section 3.
func source(a netip.Addr) Match                  { return address(equal, "saddr", 12, 8, a) }
func destination(r relation, a netip.Addr) Match { return address(r, "daddr", 16, 24, a) }

// toLinkLocal matches what goes to an IPv6 address that means something on one link only (RFC 4291 section 2.5.6).
var toLinkLocal Match = term{"ip6 daddr fe80::/10", []expr.Any{
	&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, compare(equal, []byte{unix.NFPROTO_IPV6}),
	&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
	&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 16, Mask: append([]byte{0xff, 0xc0}, make([]byte, 14)...), Xor: make([]byte, 16)},
	compare(equal, append([]byte{0xfe, 0x80}, make([]byte, 14)...)),
}}

// transportPort compares a port, and matches the protocol.
func transportPort(p term, r relation, field string, offset uint32, number uint16) Match {
	return term{fmt.Sprintf("%s %s %s%d", strings.TrimPrefix(p.text, "meta l4proto "), field, r.sign(), number), append(slices.Clone(p.code),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		compare(r, port(number)),
	)}
}

func sourcePort(p term, number uint16) Match { return transportPort(p, equal, "sport", 0, number) }
func destinationPort(p term, r relation, number uint16) Match {
	return transportPort(p, r, "dport", 2, number)
}

func device(r relation, text string, key expr.MetaKey, name string) Match {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return term{fmt.Sprintf("%s %s%q", text, r.sign(), name), []expr.Any{&expr.Meta{Key: key, Register: register}, compare(r, data)}}
}

func input(name string) Match              { return device(equal, "iifname", expr.MetaKeyIIFNAME, name) }
func output(r relation, name string) Match { return device(r, "oifname", expr.MetaKeyOIFNAME, name) }

// ownSocket matches packets of a local socket whose owner is this uid.
func ownSocket(uid uint32) Match {
	return term{fmt.Sprintf("meta skuid %d", uid), []expr.Any{&expr.Meta{Key: expr.MetaKeySKUID, Register: register}, compare(equal, native(uid))}}
}

// destinationIn matches a destination that is in a set of addresses of that family.
func destinationIn(set *nftables.Set, v6 bool) Match {
	family, proto, offset, size := "ip", byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if v6 {
		family, proto, offset, size = "ip6", unix.NFPROTO_IPV6, 24, 16
	}
	return term{family + " daddr @" + set.Name, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, compare(equal, []byte{proto}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID},
	}}
}

func verdict(text string, kind expr.VerdictKind) Action {
	return term{text, []expr.Any{&expr.Verdict{Kind: kind}}}
}

var (
	verdictAccept = verdict("accept", expr.VerdictAccept)
	verdictDrop   = verdict("drop", expr.VerdictDrop)
	verdictReturn = verdict("return", expr.VerdictReturn)
)

// redirectTo sends the connection to a local port: of the loopback for what is made here, of the device's address for what comes in.
func redirectTo(p uint16) Action {
	return term{fmt.Sprintf("redirect to :%d", p), []expr.Any{
		&expr.Immediate{Register: register, Data: port(p)}, &expr.Redir{RegisterProtoMin: register},
	}}
}

// setConnectionMark writes the low bits of the connection's mark and leaves the others.
func setConnectionMark(v uint32) Action {
	return term{fmt.Sprintf("ct mark set ct mark & 0x%08x | 0x%08x", ^uint32(markMask), v), []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: register}, masked(^uint32(markMask), v),
		&expr.Ct{Key: expr.CtKeyMARK, Register: register, SourceRegister: true},
	}}
}

// restoreMark copies the connection's mark to the packet.
var restoreMark Action = term{"meta mark set ct mark", []expr.Any{
	&expr.Ct{Key: expr.CtKeyMARK, Register: register},
	&expr.Meta{Key: expr.MetaKeyMARK, Register: register, SourceRegister: true},
}}

// setZone puts the packet's connection into a conntrack zone; only before conntrack has looked at it.
func setZone(zone uint16) Action {
	return term{fmt.Sprintf("ct zone set %d", zone), []expr.Any{
		&expr.Immediate{Register: register, Data: binary.NativeEndian.AppendUint16(nil, zone)},
		&expr.Ct{Key: expr.CtKeyZONE, Register: register, SourceRegister: true},
	}}
}

// translateSource gives the packet's connection this source address.
func translateSource(a netip.Addr) Action {
	family, proto := "ip", uint32(unix.NFPROTO_IPV4)
	if a.Is6() {
		family, proto = "ip6", unix.NFPROTO_IPV6
	}
	return term{fmt.Sprintf("snat %s to %s", family, a), []expr.Any{
		&expr.Immediate{Register: register, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: proto, RegAddrMin: register},
	}}
}
