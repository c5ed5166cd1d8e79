// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/lab/line"
)

// The emulated WAN is the kernel's with a detour: in the WAN's namespace, packets that come in from a cluster or the
// client are routed into a TUN device, wait in user space, and are routed on when they come out of it again.
// So it needs no netem in the kernel, and a capture in the namespace sees the same as without it.
const (
	wanProcess = "wan"
	wanDevice  = "emulator"
	wanTable   = 100
	// wanQueue is how many packets can be under way: 32768 of 1500 bytes are 49 MB, or 2.5 s of 160 Mbit/s, or 20 ms
	// of 20 Gbit/s. More are lost, as in any router.
	wanQueue = 32768
)

// detour makes packets that enter the WAN's namespace on the link go to the emulator, or nowhere while it is not there.
func (b *box) detour(link string) error {
	rule := netlink.NewRule()
	rule.Family = unix.AF_INET
	rule.IifName = link
	rule.Table = wanTable
	if err := b.netlink.RuleAdd(rule); err != nil {
		return fmt.Errorf("%s: detour of %s: %w", b.path, link, err)
	}
	return nil
}

// closeDetour makes the detour's end: without the emulator's own route, packets go nowhere.
func (b *box) closeDetour() error {
	err := b.netlink.RouteAdd(&netlink.Route{Dst: ipNet(anywhere), Table: wanTable, Type: unix.RTN_UNREACHABLE, Priority: 1000})
	if err != nil {
		return fmt.Errorf("%s: end of the detour: %w", b.path, err)
	}
	return nil
}

func (p places) startWAN() error {
	_, err := p.start(spawn{name: wanProcess, netns: p.netns("wan"), args: []string{"internal", "wan", p.name}, log: p.box("wan.log")})
	return err
}

// RunWAN is the process of the emulated WAN, in the WAN's network namespace. It ends with ctx.
func RunWAN(ctx context.Context, log logr.Logger, name string) error {
	p, err := placesOf(name)
	if err != nil {
		return err
	}
	r, err := p.readRecord()
	if err != nil {
		return err
	}
	device, err := line.Open(wanDevice, line.TUN)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { device.Close() })
	defer stop()
	defer device.Close()
	link, err := netlink.LinkByName(wanDevice)
	if err != nil {
		return fmt.Errorf("device %s: %w", wanDevice, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", wanDevice, err)
	}
	route := &netlink.Route{Dst: ipNet(anywhere), Table: wanTable, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Priority: 1}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route into %s: %w", wanDevice, err)
	}
	l := line.New(line.Shape{Delay: r.Shape.Delay, Jitter: r.Shape.Jitter, Loss: r.Shape.Loss}, wanQueue)
	err = l.Carry(device, device, carried)
	forwarded, lost, overflowed := l.Counts()
	log.Info("emulated WAN ends", "forwarded", forwarded, "lost", lost, "overflowed", overflowed)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

var labPrefix = netip.MustParsePrefix(labRange)

// carried says whether the WAN carries a packet: IPv4, between the lab's own addresses.
func carried(packet []byte) bool {
	const header = 20 // bytes of an IPv4 header without options, RFC 791 §3.1
	if len(packet) < header || packet[0]>>4 != 4 {
		return false
	}
	return labPrefix.Contains(netip.AddrFrom4([4]byte(packet[12:16]))) && labPrefix.Contains(netip.AddrFrom4([4]byte(packet[16:20])))
}
