// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCallersPortIsUsedTwice: a caller's own connection and the one that the proxy makes for it may have the same addresses and ports, whichever was first, and neither is led to where the
// other one goes.
func TestCallersPortIsUsedTwice(t *testing.T) {
	for _, family := range []struct{ name, pod, node string }{{"v4", podV4, nodeV4}, {"v6", podV6, nodeV6}} {
		caller := &net.TCPAddr{IP: net.ParseIP(family.node), Port: 25000}
		for _, order := range []struct {
			name       string
			proxyFirst bool
		}{{"the caller first", false}, {"the proxy first", true}} {
			t.Run(family.name+", "+order.name, func(t *testing.T) {
				s := newStage(t)
				must(t, Apply(s.pod, Options{Inbound: true, IPv6: true}))
				serve(t, s.pod, "inbound", join("::", PortInbound), true)
				serve(t, s.pod, "app", join("::", 8080), false)
				captured := callCase{"captured", s.node, net.Dialer{LocalAddr: caller, Control: reusePort}, join(family.pod, 8080), "inbound from=" + family.node + " to=" + join(family.pod, 8080)}
				proxy := callCase{"the proxy's", s.pod, net.Dialer{LocalAddr: caller, Control: both(reusePort, socketOptions(t))}, join(family.pod, 8080), "app from=" + family.node + " to=" + join(family.pod, 8080)}
				calls := []callCase{captured, proxy}
				if order.proxyFirst {
					calls = []callCase{proxy, captured}
				}
				for range 2 { // the second time meets what the kernel remembers of the first
					for _, c := range calls {
						c.run(t)
					}
				}
			})
			t.Run(family.name+", open, "+order.name, func(t *testing.T) {
				s := newStage(t)
				must(t, Apply(s.pod, Options{Inbound: true, IPv6: true}))
				echo(t, s.pod, join("::", PortInbound), true)
				echo(t, s.pod, join("::", 8080), false)
				open := map[string]func() net.Conn{
					"captured": func() net.Conn { return dial(t, s.node, net.Dialer{LocalAddr: caller}, join(family.pod, 8080)) },
					"the proxy's": func() net.Conn {
						return dial(t, s.pod, net.Dialer{LocalAddr: caller, Control: socketOptions(t)}, join(family.pod, 8080))
					},
				}
				names := []string{"captured", "the proxy's"}
				if order.proxyFirst {
					names = []string{"the proxy's", "captured"}
				}
				var opened []net.Conn
				for _, name := range names {
					opened = append(opened, open[name]())
				}
				for range 2 {
					for i, c := range opened {
						if err := exchange(c); err != nil {
							t.Errorf("%s: %v", names[i], err)
						}
					}
				}
			})
		}
	}
}

// TestCallersPortIsTakenDirectly: the same where inbound connections are not captured, so that both would end at one socket: the proxy's comes from another port.
func TestCallersPortIsTakenDirectly(t *testing.T) {
	for _, family := range []struct{ name, pod, node string }{{"v4", podV4, nodeV4}, {"v6", podV6, nodeV6}} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			must(t, Apply(s.pod, Options{IPv6: true}))
			echo(t, s.pod, join("::", 8080), false)
			caller := &net.TCPAddr{IP: net.ParseIP(family.node), Port: 25000}
			direct := dial(t, s.node, net.Dialer{LocalAddr: caller}, join(family.pod, 8080))
			proxy := dial(t, s.pod, net.Dialer{LocalAddr: caller, Control: socketOptions(t)}, join(family.pod, 8080))
			for range 2 {
				if err := errors.Join(exchange(direct), exchange(proxy)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func reusePort(_, _ string, c syscall.RawConn) error {
	var err error
	if ctl := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); ctl != nil {
		return ctl
	}
	return err
}

func both(one, two func(string, string, syscall.RawConn) error) func(string, string, syscall.RawConn) error {
	return func(network, address string, c syscall.RawConn) error {
		if err := one(network, address, c); err != nil {
			return err
		}
		return two(network, address, c)
	}
}
