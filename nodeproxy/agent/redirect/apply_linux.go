// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Apply captures the traffic of a pod. It may be applied again at any time, with the same options or others: the rules are
// exchanged in one transaction, and running connections keep what was decided for them.
func Apply(pod *os.File, o Options) error {
	// Routes first: a reply that is marked needs them.
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
		replaceTable(c, t)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("apply redirection rules: %w", err)
	}
	return nil
}

// replaceTable orders the table to be as wanted, whatever it is now. Base chains that exist are kept and only emptied.
func replaceTable(c *nftables.Conn, want Table) {
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: want.Name})
	if len(want.Chains) == 0 {
		c.DelTable(table) // added first, so that there is something to delete
		return
	}
	c.FlushTable(table)
	for _, w := range want.Chains {
		chain := c.AddChain(&nftables.Chain{Table: table, Name: w.Name, Type: w.Type, Hooknum: w.Hook, Priority: w.Priority})
		for _, r := range w.Rules {
			addRule(c, table, chain, r)
		}
	}
}

func addRule(c *nftables.Conn, table *nftables.Table, chain *nftables.Chain, r Rule) {
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.expressions(), UserData: comment(r.Name)})
}

func comment(text string) []byte { return userdata.AppendString(nil, userdata.TypeComment, text) }

// Release ends the capture of a pod that goes on running, and spares what was captured before. New connections go their own way. Those
// that are open still need four things, which stay in the pod until it ends or is captured again: chains of type nat, without which the
// kernel translates no address any more; the marks; the routes for them; and the zone, without which they would not be found. None of it touches a connection that the proxy has
// no part in. It succeeds when nothing was applied.
func Release(pod *os.File) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(pod.Fd())))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, t := range Rules(Options{}) {
		switch t.Name {
		case tableNAT:
			for i := range t.Chains {
				t.Chains[i].Rules = nil
			}
			replaceTable(c, t)
		case tableRaw: // new queries are not ours, and one that is under way is asked again
			replaceTable(c, Table{Name: t.Name})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("release from redirection rules: %w", err)
	}
	return forgetMarks(pod)
}

// Remove takes away all that Apply has ever done, and breaks the connections that are captured: nobody serves them any more. A
// namespace without a table of ours is left alone: other meshes have the same routes.
func Remove(pod *os.File) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(pod.Fd())))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	ours := []string{tableNAT, tableMangle, tableRaw, tableZone}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return slices.Contains(ours, t.Name) }) {
		return nil
	}
	// Routes first: as long as they are not gone, the tables say so.
	if err := errors.Join(forgetMarks(pod), removeRoutes(pod)); err != nil {
		return err
	}
	for _, t := range Rules(Options{}) {
		replaceTable(c, Table{Name: t.Name})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove redirection rules: %w", err)
	}
	return removeZone(pod)
}

// routing is what one address family needs: a rule for marked packets and a table in which every address is local.
type routing struct {
	family int
	rule   *netlink.Rule
	route  *netlink.Route
}

const loopbackIndex = 1 // the index of lo in every network namespace

func routings(ipv6 bool) []routing {
	families := []struct {
		family int
		all    *net.IPNet
	}{{netlink.FAMILY_V4, &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}}
	if ipv6 {
		families = append(families, struct {
			family int
			all    *net.IPNet
		}{netlink.FAMILY_V6, &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}})
	}
	var all []routing
	for _, f := range families {
		rule := netlink.NewRule()
		mask := uint32(markMask)
		rule.Family, rule.Mark, rule.Mask, rule.Table, rule.Priority = f.family, MarkReply, &mask, routeTable, rulePriority
		all = append(all, routing{f.family, rule, &netlink.Route{
			LinkIndex: loopbackIndex, Dst: f.all, Scope: netlink.SCOPE_HOST, Type: unix.RTN_LOCAL, Table: routeTable, Family: f.family,
		}})
	}
	return all
}

func applyRoutes(pod *os.File, ipv6 bool) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(pod.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in the pod's namespace: %w", err)
	}
	defer h.Close()
	for _, r := range routings(ipv6) {
		if err := h.RouteReplace(r.route); err != nil {
			return fmt.Errorf("add local route in table %d: %w", routeTable, err)
		}
		if err := h.RuleAdd(r.rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule for mark 0x%x: %w", MarkReply, err)
		}
	}
	return nil
}

func removeRoutes(pod *os.File) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(pod.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in the pod's namespace: %w", err)
	}
	defer h.Close()
	for _, r := range routings(true) {
		if err := h.RuleDel(r.rule); err != nil && !absent(err) {
			return fmt.Errorf("delete rule for mark 0x%x: %w", MarkReply, err)
		}
		if err := h.RouteDel(r.route); err != nil && !absent(err) {
			return fmt.Errorf("delete local route in table %d: %w", routeTable, err)
		}
	}
	return nil
}

// absent says whether an error of a deletion means that there was nothing to delete, which includes a kernel or namespace without
// that address family.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}
