// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Some networks do not let the node and its pods speak directly: what enters by such a pod's device is routed by a table of that device's own, which leads away from the node, and so is what
// the node sends to the pod (pods with a security group on Amazon's network, for one). Out there nobody knows the probe source. So the node is given two rules for each such pod that is captured:
// one by which it reaches the pod over its device, and one by which what the pod answers is the node's if it is for an address of the node.

const (
	// branchProtocol is by what our rules can be told from others': the origin that each says (FRA_PROTOCOL). It is one that nobody has reserved (linux/rtnetlink.h).
	branchProtocol = 0x49
	// branchPriority comes before the main table, and behind what is for the pod's device. Amazon's plugin has the rules of other pods there.
	branchPriority = 512
)

// branchRule is one rule of ours, comparable.
type branchRule struct {
	family, table, priority int
	to                      netip.Addr // or from a device:
	device                  string
}

func (b branchRule) netlink() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Table, r.Priority, r.Protocol, r.IifName = b.family, b.table, b.priority, branchProtocol, b.device
	if b.to.IsValid() {
		r.Dst = &net.IPNet{IP: b.to.AsSlice(), Mask: net.CIDRMask(b.to.BitLen(), b.to.BitLen())}
	}
	return r
}

// applyBranches makes our rules be those that these pods need, and no others.
func applyBranches(node *os.File, pods map[netip.Addr]struct{}) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(node.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in the node's namespace: %w", err)
	}
	defer h.Close()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := undisturbed(func() ([]netlink.Rule, error) { return h.RuleList(family) })
		if absent(err) {
			continue // a kernel without that family
		}
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		want, err := branches(h, family, rules, pods)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.Protocol != branchProtocol {
				continue
			}
			b := branchRule{family: family, table: r.Table, priority: r.Priority, device: r.IifName}
			if r.Dst != nil {
				b.to, _ = netip.AddrFromSlice(r.Dst.IP)
				b.to = b.to.Unmap()
			}
			if want[b] {
				delete(want, b)
			} else if err := h.RuleDel(b.netlink()); err != nil && !absent(err) {
				return fmt.Errorf("delete the rule for a pod's probes: %w", err)
			}
		}
		for b := range want {
			if err := h.RuleAdd(b.netlink()); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("add a rule for a pod's probes: %w", err)
			}
		}
	}
	return nil
}

// branches gives the rules that these pods need: those with a route in a table that is for what enters by the device to which the route leads.
func branches(h *netlink.Handle, family int, rules []netlink.Rule, pods map[netip.Addr]struct{}) (map[branchRule]bool, error) {
	byTable, want := map[int][]netlink.Rule{}, map[branchRule]bool{}
	for _, r := range rules {
		if r.IifName != "" && r.Priority > 0 && r.Protocol != branchProtocol && r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_LOCAL {
			byTable[r.Table] = append(byTable[r.Table], r)
		}
	}
	if len(byTable) == 0 || len(pods) == 0 {
		return want, nil
	}
	routes, err := undisturbed(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil || len(byTable[route.Table]) == 0 {
			continue
		}
		to, _ := netip.AddrFromSlice(route.Dst.IP)
		to = to.Unmap()
		if ones, bits := route.Dst.Mask.Size(); ones != bits {
			continue
		} else if _, ours := pods[to]; !ours {
			continue
		}
		link, err := h.LinkByIndex(route.LinkIndex)
		if err != nil {
			continue // gone by now
		}
		for _, r := range byTable[route.Table] {
			if r.IifName == link.Attrs().Name {
				want[branchRule{family: family, table: r.Table, priority: branchPriority, to: to}] = true
				want[branchRule{family: family, table: unix.RT_TABLE_LOCAL, priority: r.Priority - 1, device: r.IifName}] = true
			}
		}
	}
	return want, nil
}

// listTries is how often a list is read that changes meanwhile, as on a node where pods come and go it may.
const listTries = 10

// undisturbed reads a list of the kernel's again if it changed while it was read, and may have been read in part. If it always does, the last one has to do: no pod is kept from
// starting by what others do, and the rules are looked after from time to time.
func undisturbed[T any](list func() ([]T, error)) (all []T, err error) {
	for range listTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, nil
}
