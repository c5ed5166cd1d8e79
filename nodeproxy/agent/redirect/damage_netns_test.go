// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// nft runs nft in a namespace.
func nft(t *testing.T, ns *os.File, command string) {
	t.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		t.Fatal("nft is not installed; make tools installs it")
	}
	var out []byte
	if err := Inside(ns, func() error {
		var err error
		out, err = exec.Command(path, command).CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("nft %s: %v: %s", command, err, out)
	}
}

// ruleHandle gives the handle of the rule with this comment.
func ruleHandle(t *testing.T, ns *os.File, table, chain, comment string) string {
	t.Helper()
	path, err := exec.LookPath("nft")
	must(t, err)
	var out []byte
	must(t, Inside(ns, func() error {
		var err error
		out, err = exec.Command(path, "-a", "list", "chain", "inet", table, chain).CombinedOutput()
		return err
	}))
	for line := range strings.Lines(string(out)) {
		if rest, handle, ok := strings.Cut(line, "# handle "); ok && strings.Contains(rest, `comment "`+comment+`"`) {
			return strings.TrimSpace(handle)
		}
	}
	t.Fatalf("no rule %s in %s", comment, out)
	return ""
}

// TestDamage: whatever somebody does to a pod's rules is seen, put right in one step, and costs no open connection.
func TestDamage(t *testing.T) {
	inNetlink := func(t *testing.T, ns *os.File, f func(*netlink.Handle) error) {
		t.Helper()
		h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
		must(t, err)
		defer h.Close()
		must(t, f(h))
	}
	commands := func(list ...string) func(*testing.T, *os.File) {
		return func(t *testing.T, ns *os.File) {
			t.Helper()
			for _, c := range list {
				nft(t, ns, c)
			}
		}
	}
	for _, tt := range []struct {
		name    string
		options Options
		damage  func(*testing.T, *os.File)
		want    string
	}{
		{"nothing", Options{Inbound: true, DNS: true, IPv6: true, VirtualInterfaces: []string{"tap0"}}, func(*testing.T, *os.File) {}, ""},
		{"nothing, without IPv6, DNS and inbound", Options{}, func(*testing.T, *os.File) {}, ""},
		{"others' tables are theirs", Options{DNS: true}, commands("add table inet theirs", "add chain inet theirs output { type filter hook output priority 0; }", "add rule inet theirs output counter"), ""},
		{"everything flushed", Options{IPv6: true}, commands("flush ruleset"), "table isthmus-nat is missing"},
		{"table deleted", Options{DNS: true}, commands("delete table inet isthmus-raw"), "table isthmus-raw is missing"},
		{"table that should not be", Options{}, commands("add table inet isthmus-raw"), "table isthmus-raw should not be there"},
		{"chain flushed", Options{}, commands("flush chain inet isthmus-nat output"), "rule o1 (1 of 4) is missing or changed in chain output of table isthmus-nat"},
		{"chain deleted", Options{}, commands("flush chain inet isthmus-mangle output", "delete chain inet isthmus-mangle output"), "chain output of table isthmus-mangle is missing"},
		{"chain made anew at another place", Options{}, commands("flush chain inet isthmus-mangle output", "delete chain inet isthmus-mangle output",
			"add chain inet isthmus-mangle output { type route hook output priority 7; }"), "chain output of table isthmus-mangle is another one"},
		{"policy", Options{}, commands("chain inet isthmus-mangle output { policy drop; }"), "chain output of table isthmus-mangle is another one"},
		{"table put to sleep", Options{}, commands("add table inet isthmus-mangle { flags dormant; }"), "table isthmus-mangle has flags"},
		{"chain too many", Options{}, commands("add chain inet isthmus-nat other"), "chain other of table isthmus-nat should not be there"},
		{"rule too many", Options{}, commands("add rule inet isthmus-nat output counter"), "1 rules too many in chain output of table isthmus-nat"},
		{"rule before", Options{Inbound: true}, commands("insert rule inet isthmus-nat prerouting accept"), "rule p1 (1 of 2) is missing or changed in chain prerouting of table isthmus-nat"},
		{"rule deleted", Options{Inbound: true}, func(t *testing.T, ns *os.File) {
			nft(t, ns, "delete rule inet isthmus-nat prerouting handle "+ruleHandle(t, ns, tableNAT, "prerouting", "p2"))
		}, "rule p2 (2 of 2) is missing or changed in chain prerouting of table isthmus-nat"},
		{"rule changed under its comment", Options{}, func(t *testing.T, ns *os.File) {
			nft(t, ns, "replace rule inet isthmus-nat output handle "+ruleHandle(t, ns, tableNAT, "output", "o6")+
				` meta l4proto tcp ip daddr != 127.0.0.1 meta mark & 0xfff != 0x538 redirect to :15001 comment "o6"`)
		}, "rule o6 (4 of 4) is missing or changed in chain output of table isthmus-nat"},
		{"zone deleted", Options{}, commands("delete table inet isthmus-zone"), "table isthmus-zone is missing"},
		{"zone's rule deleted", Options{}, commands("flush table inet isthmus-zone"), "rule z1 (1 of 1) is missing or changed in chain output of table isthmus-zone"},
		{"zone of both directions", Options{}, commands("flush table inet isthmus-zone", `add rule inet isthmus-zone output oifname "lo" meta l4proto tcp meta mark & 0xfff == 0x539 ct zone set 2`), "rule z1 (1 of 1) is missing or changed in chain output of table isthmus-zone"},
		{"zone of the other direction", Options{}, commands("flush table inet isthmus-zone", `add rule inet isthmus-zone output oifname "lo" meta l4proto tcp meta mark & 0xfff == 0x539 ct reply zone set 2`), "rule z1 (1 of 1) is missing or changed in chain output of table isthmus-zone"},
		{"zone of more", Options{}, commands("flush table inet isthmus-zone", `add rule inet isthmus-zone output oifname "lo" meta l4proto tcp meta mark & 0xff == 0x539 ct original zone set 2`), "rule z1 (1 of 1) is missing or changed in chain output of table isthmus-zone"},
		{"zone's rule written by nft", Options{}, commands("flush table inet isthmus-zone", `add rule inet isthmus-zone output oifname "lo" meta l4proto tcp meta mark & 0xfff == 0x539 ct original zone set 2`), ""},
		{"rule too many in the zone's", Options{}, commands("add rule inet isthmus-zone output counter"), "1 rules too many in chain output of table isthmus-zone"},
		{"policy rule", Options{}, func(t *testing.T, ns *os.File) {
			inNetlink(t, ns, func(h *netlink.Handle) error { return h.RuleDel(routings(false)[0].rule) })
		}, "the IPv4 rule for mark 0x111 is missing"},
		{"policy rule, IPv6", Options{IPv6: true}, func(t *testing.T, ns *os.File) {
			inNetlink(t, ns, func(h *netlink.Handle) error { return h.RuleDel(routings(true)[1].rule) })
		}, "the IPv6 rule for mark 0x111 is missing"},
		{"route", Options{}, func(t *testing.T, ns *os.File) {
			inNetlink(t, ns, func(h *netlink.Handle) error { return h.RouteDel(routings(false)[0].route) })
		}, "the IPv4 route in table 100 is missing"},
		{"route, IPv6", Options{IPv6: true}, func(t *testing.T, ns *os.File) {
			inNetlink(t, ns, func(h *netlink.Handle) error { return h.RouteDel(routings(true)[1].route) })
		}, "the IPv6 route in table 100 is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			must(t, Apply(s.pod, tt.options))
			tt.damage(t, s.pod)
			if got, err := Damage(s.pod, tt.options); err != nil || got != tt.want {
				t.Fatalf("found %q, %v; want %q", got, err, tt.want)
			}
			must(t, Repair(s.pod, tt.options))
			if got, err := Damage(s.pod, tt.options); err != nil || got != "" {
				t.Errorf("after the repair: %q, %v", got, err)
			}
		})
	}
}

// TestRepairSparesWhatIsOpen: the repair of rules that are whole, or half gone, cuts no captured connection.
func TestRepairSparesWhatIsOpen(t *testing.T) {
	for _, family := range []struct{ name, pod, node string }{{"v4", podV4, nodeV4}, {"v6", podV6, nodeV6}} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			o := Options{Inbound: true, DNS: true, IPv6: true}
			must(t, Apply(s.pod, o))
			echo(t, s.pod, join("::", PortOutbound), true)
			echo(t, s.pod, join("::", PortInbound), true)
			echo(t, s.pod, join("::", 8080), false)
			open := map[string]net.Conn{
				"outbound":                 dial(t, s.pod, net.Dialer{}, join(family.node, 80)),
				"inbound":                  dial(t, s.node, net.Dialer{}, join(family.pod, 9090)),
				"proxy to the application": dial(t, s.pod, net.Dialer{Control: socketOptions(t), LocalAddr: &net.TCPAddr{IP: net.ParseIP(family.node)}}, join(family.pod, 8080)),
			}
			for _, damage := range []string{"", "flush table inet isthmus-nat", "delete table inet isthmus-mangle", "delete table inet isthmus-zone"} {
				if damage != "" {
					nft(t, s.pod, damage)
				}
				must(t, Repair(s.pod, o))
				for name, c := range open {
					if err := exchange(c); err != nil {
						t.Errorf("%s, after %q: %v", name, damage, err)
					}
				}
			}
		})
	}
}

// TestProbesDamage: the node's side of probing survives whoever resets the node's rules.
func TestProbesDamage(t *testing.T) {
	s := newStage(t)
	probes := NewProbes(s.node, uint32(os.Getuid()))
	pod := []netip.Addr{netip.MustParseAddr(podV4), netip.MustParseAddr(podV6)}
	must(t, probes.Reset(nil))
	must(t, probes.Add(pod))
	for _, tt := range []struct{ name, damage, want string }{
		{"nothing", "", ""},
		{"another table", "add table inet theirs", ""},
		{"everything flushed", "flush ruleset", "table isthmus-probes is missing"},
		{"rules flushed", "flush table inet isthmus-probes", "rule h1 (1 of 2) is missing or changed in chain postrouting of table isthmus-probes"},
		{"a pod taken out", "delete element inet isthmus-probes probes-v4 { " + podV4 + " }", "set probes-v4 is not of the captured pods"},
		{"a pod put in", "add element inet isthmus-probes probes-v6 { fd00::9 }", "set probes-v6 is not of the captured pods"},
		{"a set gone", "flush table inet isthmus-probes; delete set inet isthmus-probes probes-v6", "rule h1 (1 of 2) is missing or changed in chain postrouting of table isthmus-probes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.damage != "" {
				nft(t, s.node, tt.damage)
			}
			if got, err := probes.Repair(); err != nil || got != tt.want {
				t.Fatalf("found %q, %v; want %q", got, err, tt.want)
			}
			if got, err := probes.Repair(); err != nil || got != "" {
				t.Errorf("after the repair: %q, %v", got, err)
			}
		})
	}
	nft(t, s.node, "flush ruleset")
	must(t, probes.Add([]netip.Addr{netip.MustParseAddr("10.77.0.9")})) // does not wait for the next look
	must(t, probes.Delete(pod))
	if got, err := probes.Repair(); err != nil || got != "" {
		t.Errorf("after changes: %q, %v", got, err)
	}
	must(t, probes.Close())
}

// TestWatch: the kernel tells of each kind of change.
func TestWatch(t *testing.T) {
	s := newStage(t)
	must(t, Apply(s.pod, Options{IPv6: true}))
	for _, tt := range []struct {
		name   string
		change func() error
	}{
		{"rule", func() error { nft(t, s.pod, "flush chain inet isthmus-nat output"); return nil }},
		{"table", func() error { nft(t, s.pod, "delete table inet isthmus-mangle"); return nil }},
		{"our own", func() error { return Repair(s.pod, Options{IPv6: true}) }},
		{"routes", func() error { return removeRoutes(s.pod) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told := make(chan struct{}, 1)
			w, err := NewWatch(s.pod, func() {
				select {
				case told <- struct{}{}:
				default:
				}
			})
			must(t, err)
			defer w.Close()
			must(t, tt.change())
			select {
			case <-told:
			case <-time.After(10 * time.Second):
				t.Fatal("not told")
			}
		})
	}
}
