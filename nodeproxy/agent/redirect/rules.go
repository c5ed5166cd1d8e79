// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
)

// Options is how one pod's traffic is captured. The zero value captures outbound TCP over IPv4 alone.
type Options struct {
	// Inbound captures plaintext TCP that comes in. Without it (gateways that face clients outside the mesh) only 15008 leads to the proxy.
	Inbound bool
	// DNS captures queries over UDP and TCP.
	DNS bool
	// IPv6 adds the twins of the rules that name addresses. It should be set when the namespace has IPv6.
	IPv6 bool
	// VirtualInterfaces are devices in the pod behind which somebody else's traffic comes (a virtual machine, a container engine):
	// what enters through them is captured as outbound.
	VirtualInterfaces []string
}

// Table is one nftables table of family inet with its base chains.
type Table struct {
	Name   string
	Chains []Chain
}

// Chain is one base chain.
type Chain struct {
	Name     string
	Type     nftables.ChainType
	Hook     *nftables.ChainHook
	Priority *nftables.ChainPriority
	Rules    []Rule
}

// Rule is one rule: all of Match must hold for Action to happen. Name is its name in the specification (docs/redirection.md).
type Rule struct {
	Name   string
	Match  []Match
	Action Action
}

// Rules gives the tables for a pod. Tables without a chain are to be absent.
func Rules(o Options) []Table {
	return []Table{
		{tableNAT, []Chain{
			{"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, natPrerouting(o)},
			{"output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, natOutput(o)},
		}},
		{tableMangle, []Chain{
			{"prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle, []Rule{
				// What the proxy opened toward the application is seen here on its way through lo.
				{"m1", []Match{mark(equal, MarkProxy)}, setConnectionMark(MarkReply)},
			}},
			// Only behind p2, which takes the proxy's mark for its own sign: what is accepted has the mark that answers will be given, so that giving it changes nothing.
			{"input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityMangle, []Rule{
				{"m3", []Match{tcp, mark(equal, MarkProxy)}, restoreMark},
			}},
			// A chain of type route: when the mark changes, the packet is routed anew.
			{"output", nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityMangle, []Rule{
				{"m2", []Match{connectionMark(MarkReply)}, restoreMark},
			}},
		}},
		rawTable(o),
	}
}

// loopbacks gives the loopback address of each family of the pod. Each rule that names an address is made once per family: in a
// table of family inet, a match on an address also is a match on its family.
func (o Options) loopbacks() []netip.Addr {
	a := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if o.IPv6 {
		a = append(a, netip.IPv6Loopback())
	}
	return a
}

func (o Options) probeSources() []netip.Addr {
	a := []netip.Addr{ProbeSourceV4}
	if o.IPv6 {
		a = append(a, ProbeSourceV6)
	}
	return a
}

func natPrerouting(o Options) []Rule {
	var rules []Rule
	for _, name := range o.VirtualInterfaces {
		rules = append(rules,
			Rule{"p0", []Match{input(name), tcp}, redirectTo(PortOutbound)},
			Rule{"p0", []Match{input(name)}, verdictReturn})
	}
	if !o.Inbound {
		return rules
	}
	for _, probe := range o.probeSources() {
		rules = append(rules, Rule{"p1", []Match{tcp, source(probe)}, verdictAccept})
	}
	for _, lo := range o.loopbacks() {
		rules = append(rules, Rule{"p2", []Match{destination(notEqual, lo), destinationPort(tcp, notEqual, PortTunnel), mark(notEqual, MarkProxy)},
			redirectTo(PortInbound)})
	}
	return rules
}

func natOutput(o Options) []Rule {
	var rules []Rule
	for _, probe := range o.probeSources() {
		rules = append(rules, Rule{"o1", []Match{tcp, destination(equal, probe)}, verdictAccept})
	}
	if o.IPv6 {
		// The proxy is not told which link was meant, and nobody of the mesh is known by such an address. A socket that is of a link could not send to loopback, either.
		rules = append(rules, Rule{"o7", []Match{toLinkLocal}, verdictAccept})
	}
	if o.DNS {
		rules = append(rules, Rule{"o2", []Match{output(notEqual, "lo"), destinationPort(udp, equal, 53), mark(notEqual, MarkProxy)}, redirectTo(PortDNS)})
		for _, lo := range o.loopbacks() {
			rules = append(rules, Rule{"o3", []Match{destination(notEqual, lo), destinationPort(tcp, equal, 53), mark(notEqual, MarkProxy)}, redirectTo(PortDNS)})
		}
	}
	rules = append(rules, Rule{"o4", []Match{tcp, mark(equal, MarkReply)}, verdictAccept})
	for _, lo := range o.loopbacks() {
		rules = append(rules, Rule{"o5", []Match{output(equal, "lo"), destination(notEqual, lo)}, verdictAccept})
	}
	for _, lo := range o.loopbacks() {
		rules = append(rules, Rule{"o6", []Match{tcp, destination(notEqual, lo), mark(notEqual, MarkProxy)}, redirectTo(PortOutbound)})
	}
	return rules
}

// rawTable keeps the proxy's own queries in a conntrack zone of their own: a query that is captured and the one that the proxy
// makes for it may have the same addresses and ports, and would be one connection otherwise. The proxy's never come from port 53, so what comes from there to there
// is no answer to one: it is a query to a server in the pod, whose own answer has to be of the same connection, or it would be captured as a query.
func rawTable(o Options) Table {
	if !o.DNS {
		return Table{Name: tableRaw}
	}
	return Table{tableRaw, []Chain{
		{"prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, []Rule{
			{"r2", []Match{sourcePort(udp, 53), destinationPort(udp, notEqual, 53), mark(notEqual, MarkProxy)}, setZone(1)},
		}},
		{"output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityRaw, []Rule{
			{"r1", []Match{destinationPort(udp, equal, 53), mark(equal, MarkProxy)}, setZone(1)},
		}},
	}}
}

// String gives the table as nft writes it, with the rules' names as comments.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", t.Name)
	for _, c := range t.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %d; policy accept;\n", c.Name, c.Type, c.Name, *c.Priority)
		for _, r := range c.Rules {
			b.WriteString("\t\t" + r.String() + "\n")
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (r Rule) String() string {
	var parts []string
	for _, m := range r.Match {
		parts = append(parts, m.String())
	}
	return strings.Join(append(parts, r.Action.String()), " ") + fmt.Sprintf(" comment %q", r.Name)
}
