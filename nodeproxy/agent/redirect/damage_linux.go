// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Damage says what of a pod's capture is not as Apply leaves it with these options: "" when nothing is, else the first difference
// that was found. Somebody with rights in the pod, or on the node, may have deleted or changed it, and then traffic may pass by the proxy.
func Damage(pod *os.File, o Options) (string, error) {
	what, err := routesDamage(pod, o.IPv6)
	if what != "" || err != nil {
		return what, err
	}
	if what, err := tablesDamage(pod, append(Rules(o), zoneTable)); what != "" || err != nil {
		return what, err
	}
	return zoneRulesDamage(pod)
}

// Captured says whether a namespace's traffic is captured, be it not as it should be.
func Captured(netns *os.File) (bool, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(netns.Fd())))
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list chains: %w", err)
	}
	for _, chain := range chains {
		if chain.Table.Name != tableNAT {
			continue
		}
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return false, fmt.Errorf("list rules: %w", err)
		}
		if len(rules) > 0 { // a pod that was released keeps its chains
			return true, nil
		}
	}
	return false, nil
}

// Repair captures the traffic of a pod anew, whatever became of its tables; Apply relies on their form. Like Apply it is one
// transaction, and connections that are open go on.
func Repair(pod *os.File, o Options) error {
	if err := applyRoutes(pod, o.IPv6); err != nil {
		return err
	}
	if err := applyZone(pod); err != nil {
		return err
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(pod.Fd())))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, t := range Rules(o) {
		replaceTable(c, Table{Name: t.Name})
		if len(t.Chains) > 0 {
			replaceTable(c, t)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("repair redirection rules: %w", err)
	}
	return nil
}

func tablesDamage(netns *os.File, want []Table) (string, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(netns.Fd())), nftables.AsLasting())
	if err != nil {
		return "", fmt.Errorf("nftables: %w", err)
	}
	defer func() { _ = c.CloseLasting() }() // it was only read from
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", fmt.Errorf("list tables: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", fmt.Errorf("list chains: %w", err)
	}
	for _, w := range want {
		what, err := tableDamage(c, w, tables, chains)
		if errors.Is(err, unix.ENOENT) {
			what, err = fmt.Sprintf("table %s is being changed", w.Name), nil // what was listed is gone
		}
		if what != "" || err != nil {
			return what, err
		}
	}
	return "", nil
}

func tableDamage(c *nftables.Conn, want Table, tables []*nftables.Table, chains []*nftables.Chain) (string, error) {
	var table *nftables.Table
	for _, t := range tables {
		if t.Name == want.Name {
			table = t
		}
	}
	switch {
	case table == nil && len(want.Chains) == 0:
		return "", nil
	case table == nil:
		return fmt.Sprintf("table %s is missing", want.Name), nil
	case len(want.Chains) == 0:
		return fmt.Sprintf("table %s should not be there", want.Name), nil
	case table.Flags != 0:
		return fmt.Sprintf("table %s has flags", want.Name), nil // dormant, for example
	}
	found := map[string]*nftables.Chain{}
	for _, chain := range chains {
		if chain.Table.Name == want.Name {
			found[chain.Name] = chain
		}
	}
	for _, w := range want.Chains {
		chain := found[w.Name]
		delete(found, w.Name)
		if chain == nil {
			return fmt.Sprintf("chain %s of table %s is missing", w.Name, want.Name), nil
		}
		if !sameChain(w, chain) {
			return fmt.Sprintf("chain %s of table %s is another one", w.Name, want.Name), nil
		}
		if want.Name == tableZone {
			continue // its rule is more than the library can read
		}
		rules, err := c.GetRules(table, chain)
		if err != nil {
			return "", fmt.Errorf("list rules of chain %s of table %s: %w", w.Name, want.Name, err)
		}
		if what := rulesDamage(w.Rules, rules); what != "" {
			return fmt.Sprintf("%s in chain %s of table %s", what, w.Name, want.Name), nil
		}
	}
	for name := range found {
		return fmt.Sprintf("chain %s of table %s should not be there", name, want.Name), nil
	}
	return "", nil
}

func sameChain(want Chain, got *nftables.Chain) bool {
	return got.Type == want.Type && got.Hooknum != nil && *got.Hooknum == *want.Hook && got.Priority != nil && *got.Priority == *want.Priority &&
		(got.Policy == nil || *got.Policy == nftables.ChainPolicyAccept)
}

// rulesDamage compares rules by what the kernel executes and not by their comments.
func rulesDamage(want []Rule, got []*nftables.Rule) string {
	for i, w := range want {
		if i >= len(got) || !bytes.Equal(program(w.expressions()), program(got[i].Exprs)) {
			return fmt.Sprintf("rule %s (%d of %d) is missing or changed", w.Name, i+1, len(want))
		}
	}
	if extra := len(got) - len(want); extra > 0 {
		return fmt.Sprintf("%d rules too many", extra)
	}
	return ""
}

func (r Rule) expressions() []expr.Any {
	var all []expr.Any
	for _, m := range r.Match {
		all = append(all, m.expressions()...)
	}
	return append(all, r.Action.expressions()...)
}

// program gives the bytes of a rule's expressions, without what the kernel adds when it lists them.
func program(exprs []expr.Any) []byte {
	var all []byte
	for _, e := range exprs {
		switch known := e.(type) {
		case *expr.Redir:
			e = &expr.Redir{RegisterProtoMin: known.RegisterProtoMin} // flags and the end of the range follow from the register
		case *expr.NAT:
			e = &expr.NAT{Type: known.Type, Family: known.Family, RegAddrMin: known.RegAddrMin}
		case *expr.Ct:
			if known.SourceRegister {
				e = &expr.Ct{Key: known.Key} // which register is written from is not told by the library
			}
		case *expr.Lookup:
			e = &expr.Lookup{SourceRegister: known.SourceRegister, SetName: known.SetName} // ids are of the transaction
		}
		b, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
		if err != nil {
			b = []byte(err.Error()) // not one of ours: equal to nothing
		}
		all = append(all, b...)
	}
	return all
}

func routesDamage(pod *os.File, ipv6 bool) (string, error) {
	h, err := netlink.NewHandleAt(netns.NsHandle(pod.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("netlink in the pod's namespace: %w", err)
	}
	defer h.Close()
	for _, want := range routings(ipv6) {
		family := map[int]string{netlink.FAMILY_V4: "IPv4", netlink.FAMILY_V6: "IPv6"}[want.family]
		rules, err := h.RuleListFiltered(want.family, want.rule, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PRIORITY|netlink.RT_FILTER_MARK|netlink.RT_FILTER_MASK)
		if err != nil {
			return "", fmt.Errorf("list %s rules: %w", family, err)
		}
		if len(rules) == 0 {
			return fmt.Sprintf("the %s rule for mark 0x%x is missing", family, MarkReply), nil
		}
		routes, err := h.RouteListFiltered(want.family, want.route, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF|netlink.RT_FILTER_TYPE)
		if err != nil {
			return "", fmt.Errorf("list %s routes: %w", family, err)
		}
		found := false
		for _, r := range routes {
			found = found || r.Dst == nil || r.Dst.IP.IsUnspecified() && strings.HasSuffix(r.Dst.String(), "/0")
		}
		if !found {
			return fmt.Sprintf("the %s route in table %d is missing", family, routeTable), nil
		}
	}
	return "", nil
}
