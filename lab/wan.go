// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The emulated WAN is the kernel's with a detour: in the WAN's namespace, packets that come in from a cluster or the
// client are routed into a TUN device, wait in user space, and are routed on when they come out of it again.
// So it needs no netem in the kernel, and a capture in the namespace sees the same as without it.
const (
	wanProcess = "wan"
	wanDevice  = "emulator"
	wanTable   = 100
	// wanPacket is the largest packet of a TUN device, in bytes; those of the lab have 1500.
	wanPacket = 65535
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
	device, err := openTUN(wanDevice)
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
	e := newEmulator(r.Shape, wanQueue)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		if err := e.release(device); err != nil && ctx.Err() == nil {
			log.Error(err, "cannot send")
		}
	})
	err = e.collect(device)
	log.Info("emulated WAN ends", "forwarded", e.forwarded.Load(), "lost", e.lost.Load(), "overflowed", e.overflowed.Load())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// openTUN makes a TUN device in the calling thread's network namespace; it goes when the file is closed.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make TUN device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// emulator is a line: packets come out in the order in which they went in, each after its delay.
type emulator struct {
	shape Shape
	queue chan delayed
	// last is when the newest packet in the queue comes out. Owned by collect.
	last time.Time

	forwarded, lost, overflowed atomic.Uint64
}

type delayed struct {
	packet []byte
	due    time.Time
}

func newEmulator(shape Shape, queue int) *emulator {
	return &emulator{shape: shape, queue: make(chan delayed, queue)}
}

// collect takes packets in until the device is closed, and then ends release.
func (e *emulator) collect(device io.Reader) error {
	defer close(e.queue)
	buffer := make([]byte, wanPacket)
	for {
		n, err := device.Read(buffer)
		if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read packet: %w", err)
		}
		if !carried(buffer[:n]) || e.shape.Loss > 0 && rand.Float64() < e.shape.Loss {
			e.lost.Add(1)
			continue
		}
		due := time.Now().Add(e.shape.Delay)
		if e.shape.Jitter > 0 {
			due = due.Add(rand.N(e.shape.Jitter))
		}
		if due.Before(e.last) {
			due = e.last
		}
		select {
		case e.queue <- delayed{packet: append([]byte(nil), buffer[:n]...), due: due}:
			e.last = due
		default:
			e.overflowed.Add(1)
		}
	}
}

// release sends packets on when they are due, until collect has ended and the queue is empty or sending fails.
func (e *emulator) release(device io.Writer) error {
	for next := range e.queue {
		if wait := time.Until(next.due); wait > 0 {
			time.Sleep(wait)
		}
		if _, err := device.Write(next.packet); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return fmt.Errorf("write packet: %w", err)
		}
		e.forwarded.Add(1)
	}
	return nil
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
