// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What the proxy opens toward the application from its caller's address may have the same addresses and ports as a connection of the caller's own that was captured. To conntrack they
// would be one. So the first direction of the proxy's has a zone of its own. The second has not: it needs none, as answers of captured connections come from the proxy's port, and could have none,
// as nothing tells the application's answers from others before conntrack has looked at them.
//
// The library of all other rules can neither write nor read one direction of a zone, so that this one has a table of its own, and is said to the kernel here. It is of use alone, and
// changes nothing for connections that it does not match: that it is another transaction is seen by nobody.
const zoneCallers = 2

// zoneTable is the table without its only rule.
var zoneTable = Table{tableZone, []Chain{{"output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityRaw, nil}}}

// zoneMatch is what the rule is for.
func zoneMatch() []Match { return []Match{output(equal, "lo"), tcp, mark(equal, MarkProxy)} }

// zoneText is the table as nft writes it.
func zoneText() string {
	t := zoneTable
	t.Chains = []Chain{t.Chains[0]}
	t.Chains[0].Rules = []Rule{{"z1", zoneMatch(), term{text: fmt.Sprintf("ct original zone set %d", zoneCallers)}}}
	return t.String()
}

// zoneExpressions gives the rule's expressions, each a list of attributes with its name and its data.
func zoneExpressions() ([][]byte, error) {
	exprs := Rule{Match: zoneMatch(), Action: term{code: []expr.Any{&expr.Immediate{Register: register, Data: binary.NativeEndian.AppendUint16(nil, zoneCallers)}}}}.expressions()
	var all [][]byte
	for _, e := range exprs {
		b, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
		if err != nil {
			return nil, fmt.Errorf("rule z1: %w", err)
		}
		all = append(all, b)
	}
	set, err := attributes(func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_EXPR_NAME, "ct")
		e.Nested(unix.NFTA_EXPR_DATA, func(e *netlink.AttributeEncoder) error {
			e.Uint32(unix.NFTA_CT_KEY, unix.NFT_CT_ZONE)
			e.Uint32(unix.NFTA_CT_SREG, register)
			e.Uint8(unix.NFTA_CT_DIRECTION, 0) // IP_CT_DIR_ORIGINAL
			return nil
		})
	})
	return append(all, set), err
}

func attributes(write func(*netlink.AttributeEncoder)) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	write(e)
	return e.Encode()
}

// zoneChange is a message of a transaction.
type zoneChange struct {
	kind  netlink.HeaderType
	flags netlink.HeaderFlags
	write func(*netlink.AttributeEncoder)
}

var (
	newZoneTable    = zoneChange{unix.NFT_MSG_NEWTABLE, netlink.Create, func(e *netlink.AttributeEncoder) { e.String(unix.NFTA_TABLE_NAME, tableZone) }}
	deleteZoneTable = zoneChange{unix.NFT_MSG_DELTABLE, 0, newZoneTable.write}
)

// applyZone makes the table, whatever it was.
func applyZone(pod *os.File) error {
	exprs, err := zoneExpressions()
	if err != nil {
		return err
	}
	chain := zoneTable.Chains[0]
	return changeZone(pod, newZoneTable, deleteZoneTable, newZoneTable,
		zoneChange{unix.NFT_MSG_NEWCHAIN, netlink.Create, func(e *netlink.AttributeEncoder) {
			e.String(unix.NFTA_CHAIN_TABLE, tableZone)
			e.String(unix.NFTA_CHAIN_NAME, chain.Name)
			e.Nested(unix.NFTA_CHAIN_HOOK, func(e *netlink.AttributeEncoder) error {
				e.Uint32(unix.NFTA_HOOK_HOOKNUM, uint32(*chain.Hook))
				e.Int32(unix.NFTA_HOOK_PRIORITY, int32(*chain.Priority))
				return nil
			})
			e.String(unix.NFTA_CHAIN_TYPE, string(chain.Type))
		}},
		zoneChange{unix.NFT_MSG_NEWRULE, netlink.Create | netlink.Append, func(e *netlink.AttributeEncoder) {
			e.String(unix.NFTA_RULE_TABLE, tableZone)
			e.String(unix.NFTA_RULE_CHAIN, chain.Name)
			e.Nested(unix.NFTA_RULE_EXPRESSIONS, func(e *netlink.AttributeEncoder) error {
				for _, x := range exprs {
					e.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, x)
				}
				return nil
			})
			e.Bytes(unix.NFTA_RULE_USERDATA, comment("z1"))
		}})
}

// removeZone takes the table away if it is there.
func removeZone(pod *os.File) error { return changeZone(pod, newZoneTable, deleteZoneTable) }

func changeZone(pod *os.File, changes ...zoneChange) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(pod.Fd())})
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer func() { _ = c.Close() }() // all was said
	boundary := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: []byte{0, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}}
	}
	batch := []netlink.Message{boundary(unix.NFNL_MSG_BATCH_BEGIN)}
	for _, change := range changes {
		m, err := change.message(netlink.Acknowledge)
		if err != nil {
			return err
		}
		batch = append(batch, m)
	}
	if _, err := c.SendMessages(append(batch, boundary(unix.NFNL_MSG_BATCH_END))); err != nil {
		return fmt.Errorf("change table %s: %w", tableZone, err)
	}
	for range changes {
		if _, err := c.Receive(); err != nil { // nothing was changed then
			return fmt.Errorf("change table %s: %w", tableZone, err)
		}
	}
	return nil
}

func (z zoneChange) message(flags netlink.HeaderFlags) (netlink.Message, error) {
	b, err := attributes(z.write)
	if err != nil {
		return netlink.Message{}, fmt.Errorf("table %s: %w", tableZone, err)
	}
	return netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | z.kind, Flags: netlink.Request | z.flags | flags},
		Data:   append([]byte{byte(nftables.TableFamilyINet), unix.NFNETLINK_V0, 0, 0}, b...),
	}, nil
}

// zoneRulesDamage says what of the table's rules is not as applyZone leaves them.
func zoneRulesDamage(pod *os.File) (string, error) {
	want, err := zoneExpressions()
	if err != nil {
		return "", err
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(pod.Fd())})
	if err != nil {
		return "", fmt.Errorf("nftables: %w", err)
	}
	defer func() { _ = c.Close() }() // it was only read from
	question, err := zoneChange{unix.NFT_MSG_GETRULE, netlink.Dump, func(e *netlink.AttributeEncoder) { e.String(unix.NFTA_RULE_TABLE, tableZone) }}.message(0)
	if err != nil {
		return "", err
	}
	rules, err := c.Execute(question)
	if err != nil {
		return "", fmt.Errorf("list rules of table %s: %w", tableZone, err)
	}
	where := " in chain output of table " + tableZone
	if len(rules) == 0 || !sameExpressions(want, rules[0].Data) {
		return "rule z1 (1 of 1) is missing or changed" + where, nil
	}
	if extra := len(rules) - 1; extra > 0 {
		return fmt.Sprintf("%d rules too many", extra) + where, nil
	}
	return "", nil
}

// sameExpressions compares expressions with those of a rule as the kernel lists it.
func sameExpressions(want [][]byte, rule []byte) bool {
	if len(rule) < unix.SizeofNlMsghdr/4 {
		return false
	}
	list, ok := find(rule[4:], unix.NFTA_RULE_EXPRESSIONS) // behind the family, the version and a resource's number
	if !ok {
		return false
	}
	got, err := netlink.UnmarshalAttributes(list)
	if err != nil || len(got) != len(want) {
		return false
	}
	for i, w := range want {
		for _, part := range []uint16{unix.NFTA_EXPR_NAME, unix.NFTA_EXPR_DATA} {
			a, _ := find(w, part)
			b, ok := find(got[i].Data, part)
			if !ok || part == unix.NFTA_EXPR_NAME && !bytes.Equal(a, b) || part == unix.NFTA_EXPR_DATA && !sameData(a, b) {
				return false
			}
		}
	}
	return true
}

// sameData says whether all that was said of an expression is so. The kernel adds what was not.
func sameData(want, got []byte) bool {
	said, err := netlink.UnmarshalAttributes(want)
	if err != nil {
		return false
	}
	for _, a := range said {
		b, ok := find(got, a.Type)
		if !ok || !bytes.Equal(a.Data, b) {
			return false
		}
	}
	return true
}

// find gives an attribute of a list.
func find(list []byte, kind uint16) ([]byte, bool) {
	all, err := netlink.UnmarshalAttributes(list)
	if err != nil {
		return nil, false
	}
	for _, a := range all {
		if (a.Type^kind)&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == 0 {
			return a.Data, true
		}
	}
	return nil, false
}
