// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// deleteTable does what "nft delete table inet NAME" does.
func deleteTable(t *testing.T, ns *os.File, name string) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// event gives the messages of the events about an object with this reason, one a line, or "".
func (n *node) event(kind, name, reason string) string {
	n.t.Helper()
	list, err := n.client.CoreV1().Events("").List(n.t.Context(), metav1.ListOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	var all []string
	for _, e := range list.Items {
		if e.InvolvedObject.Kind == kind && e.InvolvedObject.Name == name && e.Reason == reason {
			all = append(all, e.Message)
		}
	}
	return strings.Join(all, "\n")
}

func TestDamagedRulesArePutRight(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	n.process(uidOf(1), sandbox)
	n.start()
	p, _ := n.startProxy()
	n.until("pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })
	options := captureOptions(pod, true)
	var err error
	if options.IPv6, err = redirect.PrepareIPv6(sandbox); err != nil {
		t.Fatal(err)
	}
	whole := func() bool {
		what, err := redirect.Damage(sandbox, options)
		return what == "" && err == nil
	}
	if !whole() {
		t.Fatal("not captured as it should be")
	}

	deleteTable(t, sandbox, "isthmus-nat")
	n.until("the rules to be put right", whole)
	n.until("the pod's event", func() bool {
		return strings.Contains(n.event("Pod", pod.Name, reasonRepaired), "table isthmus-nat is missing")
	})

	h, err := netlink.NewHandleAt(netns.NsHandle(sandbox.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	mask := uint32(0xfff)
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Mark, rule.Mask, rule.Table = netlink.FAMILY_V4, 32764, redirect.MarkReply, &mask, 100
	if err := h.RuleDel(rule); err != nil {
		t.Fatal(err)
	}
	n.until("the policy rule to be put right", whole)

	// The node's side, which for example a restart of the node's firewall takes away.
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	deleteTable(t, own, "isthmus-probes")
	n.until("the node's rules to be put right", func() bool { return probed(t) == "10.1.0.1" })
	n.until("the node's event", func() bool {
		return strings.Contains(n.event("Node", "n1", reasonRepaired), "table isthmus-probes is missing")
	})
	if !p.served(pod) || n.annotation(pod) != redirectionEnabled {
		t.Error("the repair took the pod out of service")
	}
}

// A pod that gets IPv6 while it runs is captured over IPv6, too.
func TestPodGetsIPv6Later(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	set := func(value string) {
		t.Helper()
		if err := redirect.Inside(sandbox, func() error {
			for _, dev := range []string{"all", "default", "lo"} {
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+dev+"/disable_ipv6", []byte(value), 0o644); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	n.process(uidOf(1), sandbox)
	n.start()
	p, _ := n.startProxy()
	n.until("pod to be served", func() bool { return p.served(pod) })
	options := captureOptions(pod, true)
	if what, err := redirect.Damage(sandbox, options); what != "" || err != nil {
		t.Fatalf("without IPv6: %s, %v", what, err)
	}
	set("0")
	options.IPv6 = true
	n.until("the rules for IPv6", func() bool {
		what, err := redirect.Damage(sandbox, options)
		return what == "" && err == nil
	})
}
