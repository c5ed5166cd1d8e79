// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestProbesOfAPodBehindItsOwnTable: a network that leads what the node and the pod say to each other away from the node, as Amazon's does for pods with a security group, knows nothing of the
// probe source. The kubelet reaches such a pod all the same, while it is captured.
func TestProbesOfAPodBehindItsOwnTable(t *testing.T) {
	for _, family := range []struct {
		name, pod, node, probe string
		number                 int
	}{
		{"v4", podV4, nodeV4, ProbeSourceV4.String(), netlink.FAMILY_V4},
		{"v6", podV6, nodeV6, ProbeSourceV6.String(), netlink.FAMILY_V6},
	} {
		t.Run(family.name, func(t *testing.T) {
			const table = 101
			s := newStage(t)
			serve(t, s.pod, "app", join("::", 8080), false)
			direct := callCase{"before", s.node, net.Dialer{}, join(family.pod, 8080), "app from=" + family.node + " to=" + join(family.pod, 8080)}
			direct.run(t) // they know each other's links from here on
			must(t, Inside(s.node, func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_early_demux", []byte("0"), 0) }))
			h, err := netlink.NewHandleAt(netns.NsHandle(s.node.Fd()), unix.NETLINK_ROUTE)
			must(t, err)
			defer h.Close()
			must(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vpc"}, PeerName: "nowhere"}))
			vpc, err := h.LinkByName("vpc")
			must(t, err)
			must(t, h.LinkSetUp(vpc))
			eth0, err := h.LinkByName("eth0")
			must(t, err)
			pod := netip.MustParseAddr(family.pod)
			host := &net.IPNet{IP: pod.AsSlice(), Mask: net.CIDRMask(pod.BitLen(), pod.BitLen())}
			all := &net.IPNet{IP: make(net.IP, pod.BitLen()/8), Mask: net.CIDRMask(0, pod.BitLen())}
			for _, r := range []netlink.Route{
				{LinkIndex: vpc.Attrs().Index, Dst: host}, // what the node sends goes away from it
				{LinkIndex: eth0.Attrs().Index, Dst: host, Table: table},
				{LinkIndex: vpc.Attrs().Index, Dst: all, Table: table},
			} {
				must(t, h.RouteAdd(&r))
			}
			rule := func(change func(*netlink.Rule)) *netlink.Rule {
				r := netlink.NewRule()
				r.Family = family.number
				change(r)
				return r
			}
			local := func(r *netlink.Rule) { r.Table, r.Priority = unix.RT_TABLE_LOCAL, 20 }
			must(t, h.RuleAdd(rule(local)))
			must(t, h.RuleDel(rule(func(r *netlink.Rule) { r.Table, r.Priority = unix.RT_TABLE_LOCAL, 0 })))
			must(t, h.RuleAdd(rule(func(r *netlink.Rule) { r.IifName, r.Table, r.Priority = "eth0", table, 10 })))
			before, err := h.RuleList(family.number)
			must(t, err)

			must(t, Apply(s.pod, Options{Inbound: true, IPv6: true}))
			probe := direct
			probe.want = "app from=" + family.probe + " to=" + join(family.pod, 8080)
			probes := NewProbes(s.node, uint32(os.Getuid()))
			must(t, probes.Reset(nil))
			must(t, probes.Add([]netip.Addr{pod}))
			probe.name = "of a pod that was captured"
			probe.run(t)

			// An agent that comes later finds what the one before it left, and so does one that looks whether it is whole.
			must(t, NewProbes(s.node, uint32(os.Getuid())).Reset([]netip.Addr{pod}))
			probe.name = "after the agent's restart"
			probe.run(t)
			for _, r := range []*netlink.Rule{
				rule(func(r *netlink.Rule) { r.Dst, r.Table, r.Priority = host, table, branchPriority }),
				rule(func(r *netlink.Rule) { r.IifName, r.Table, r.Priority = "eth0", unix.RT_TABLE_LOCAL, 9 }),
			} {
				must(t, h.RuleDel(r))
				_, err := probes.Repair()
				must(t, err)
				probe.name = "after a rule was deleted"
				probe.run(t)
			}
			must(t, probes.Delete([]netip.Addr{pod}))
			after, err := h.RuleList(family.number)
			must(t, err)
			if len(after) != len(before) {
				t.Errorf("%d rules are left of %d: %v", len(after), len(before), after)
			}
		})
	}
}
