// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestReleaseSparesWhatIsOpen: a pod that leaves the mesh keeps its captured connections, which the proxy still carries, while new ones go
// their own way.
func TestReleaseSparesWhatIsOpen(t *testing.T) {
	for _, family := range []struct{ name, pod, node string }{{"v4", podV4, nodeV4}, {"v6", podV6, nodeV6}} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			must(t, Apply(s.pod, Options{Inbound: true, DNS: true, IPv6: true}))
			echo(t, s.pod, join("::", PortOutbound), true)
			echo(t, s.pod, join("::", PortInbound), true)
			echo(t, s.pod, join("::", 8080), false)
			serve(t, s.node, "world", join("::", 80), false)

			open := map[string]net.Conn{
				"outbound":                 dial(t, s.pod, net.Dialer{}, join(family.node, 80)),
				"inbound":                  dial(t, s.node, net.Dialer{}, join(family.pod, 9090)),
				"proxy to the application": dial(t, s.pod, net.Dialer{Control: socketOptions(t), LocalAddr: &net.TCPAddr{IP: net.ParseIP(family.node)}}, join(family.pod, 8080)),
			}
			for name, c := range open {
				if err := exchange(c); err != nil {
					t.Fatalf("%s, before: %v", name, err)
				}
			}
			for range 2 {
				must(t, Release(s.pod))
			}
			for name, c := range open {
				if err := exchange(c); err != nil {
					t.Errorf("%s, after: %v", name, err)
				}
			}
			callCase{"new inbound", s.node, net.Dialer{}, join(family.pod, 80), ""}.run(t)
			callCase{"new outbound", s.pod, net.Dialer{}, join(family.node, 80), "world from=" + family.pod + " to=" + join(family.node, 80)}.run(t)
		})
	}
}

// TestRemoveLeavesOthersAlone: the routes of a pod that another mesh captured stay.
func TestRemoveLeavesOthersAlone(t *testing.T) {
	s := newStage(t)
	rules := func() int {
		h, err := netlink.NewHandleAt(netns.NsHandle(s.pod.Fd()))
		must(t, err)
		defer h.Close()
		all, err := h.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Table: routeTable}, netlink.RT_FILTER_TABLE)
		must(t, err)
		return len(all)
	}
	must(t, applyRoutes(s.pod, true)) // whoever's
	must(t, Remove(s.pod))
	if rules() != 1 {
		t.Errorf("%d rules are left of another mesh's, want 1", rules())
	}
	must(t, Apply(s.pod, Options{}))
	must(t, Release(s.pod))
	must(t, Remove(s.pod))
	if rules() != 0 {
		t.Errorf("%d rules are left of ours", rules())
	}
}

// echo listens in a namespace and sends back what comes.
func echo(t *testing.T, ns *os.File, addr string, asProxy bool) {
	t.Helper()
	var lc net.ListenConfig
	if asProxy {
		lc.Control = socketOptions(t)
	}
	var l net.Listener
	must(t, Inside(ns, func() error {
		var err error
		l, err = lc.Listen(context.Background(), "tcp", addr)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
}

func dial(t *testing.T, ns *os.File, d net.Dialer, addr string) net.Conn {
	t.Helper()
	d.Timeout = 2 * time.Second
	var c net.Conn
	must(t, Inside(ns, func() error {
		var err error
		c, err = d.Dial("tcp", addr)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

func exchange(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}
