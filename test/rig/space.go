// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// Space is a network namespace. It lives until it is closed and nothing runs in it any more.
type Space struct{ file *os.File }

// NewSpace makes a namespace in which nothing but the loopback is up.
func NewSpace() (*Space, error) {
	file, err := netspace.New()
	if err != nil {
		return nil, err
	}
	s := &Space{file}
	if err := s.links(func(h *netlink.Handle) error { return up(h, "lo") }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// File is what stands for the namespace; it stays the Space's.
func (s *Space) File() *os.File { return s.file }

// Close lets go of the namespace.
func (s *Space) Close() error { return s.file.Close() }

// Inside runs f on a thread that is in the namespace. f must not start goroutines that need to be there.
func (s *Space) Inside(f func() error) error { return redirect.Inside(s.file, f) }

// Listen listens inside.
func (s *Space) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = s.Inside(func() error {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Dial connects from inside to an address that needs no name server.
func (s *Space) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = s.Inside(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Get asks an HTTP server from inside, and gives its answer if that is 200. A longer body than 64 MiB is cut.
func (s *Space) Get(ctx context.Context, url string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{DialContext: s.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", url, answer.Status, body)
	}
	return body, err
}

// Filter has nft carry out its commands inside: all of them, or none.
func (s *Space) Filter(ctx context.Context, commands string) error {
	_, err := s.Nft(ctx, commands)
	return err
}

// Nft is Filter, and gives what nft says.
func (s *Space) Nft(ctx context.Context, commands string) (said string, err error) {
	err = s.Inside(func() error {
		text, err := exec.CommandContext(ctx, "nft", commands).CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft %s: %w: %s", commands, err, text)
		}
		said = string(text)
		return nil
	})
	return said, err
}

// Swallow drops what comes and goes by a device, without a word to anybody, or stops to.
func (s *Space) Swallow(ctx context.Context, device string, on bool) error {
	if !on {
		return s.Filter(ctx, "delete table inet swallow")
	}
	return s.Filter(ctx, "add table inet swallow; "+
		"add chain inet swallow in { type filter hook input priority -300 ; }; add rule inet swallow in iifname "+device+" drop; "+
		"add chain inet swallow out { type filter hook output priority -300 ; }; add rule inet swallow out oifname "+device+" drop")
}

// links runs f with a handle on the namespace's devices.
func (s *Space) links(f func(h *netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(s.file.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

// up switches a device on and gives it addresses.
func up(h *netlink.Handle, device string, addresses ...netip.Prefix) error {
	l, err := h.LinkByName(device)
	for _, a := range addresses {
		if err == nil {
			err = h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD})
		}
	}
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// bridge is the name of the device that others plug into.
const bridge = "br0"

// addBridge makes the namespace one that others can be plugged into, with an address there if that is valid.
func (s *Space) addBridge(address netip.Prefix) error {
	return s.links(func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
			return fmt.Errorf("bridge: %w", err)
		}
		if address.IsValid() {
			return up(h, bridge, address)
		}
		return up(h, bridge)
	})
}

// plug joins the namespace to the bridge of another, whose end of the link has the name port, by a device with these addresses.
func (s *Space) plug(into *Space, port, device string, addresses ...netip.Prefix) error {
	err := into.links(func(h *netlink.Handle) error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: device, PeerNamespace: netlink.NsFd(int(s.file.Fd()))}
		if len(addresses) > 0 && addresses[0].Addr().Is4() {
			// Whoever has the address next is found by those who knew the last one, as it would be behind a router. 02 is for addresses of one's own (RFC 7042 §2.1).
			ip := addresses[0].Addr().As4()
			pair.PeerHardwareAddr = append(net.HardwareAddr{0x02, 0}, ip[:]...)
		}
		if err := h.LinkAdd(pair); err != nil {
			return fmt.Errorf("link %s to %s: %w", device, port, err)
		}
		master, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		if err := h.LinkSetMaster(pair, master); err != nil {
			return err
		}
		return up(h, port)
	})
	if err != nil {
		return err
	}
	return s.links(func(h *netlink.Handle) error { return up(h, device, addresses...) })
}

// route leads packets for to, or for everywhere if that is not valid, through a neighbour.
func (s *Space) route(to netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{Gw: via.AsSlice()}
	if to.IsValid() {
		r.Dst = ipNet(to)
	}
	return s.links(func(h *netlink.Handle) error {
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("route to %v by %v: %w", to, via, err)
		}
		return nil
	})
}

// set writes a kernel parameter of the namespace, by its path below /proc/sys/net.
func (s *Space) set(parameter, value string) error {
	return s.Inside(func() error { return os.WriteFile("/proc/sys/net/"+parameter, []byte(value), 0o644) })
}
