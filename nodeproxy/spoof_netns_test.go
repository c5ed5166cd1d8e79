// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// One caller makes ten times as many connections to one application as there are ports. Each is over when it has been answered, and the caller ends it first, so that the proxy's side is
// in TIME-WAIT for a minute. The application sees the caller's address all the same.
func TestCallersAddressIsKeptAtAnyRate(t *testing.T) {
	const connections, at = 10000, 32
	ns, err := netspace.New()
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := NewNamespace(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	app, caller := netip.MustParseAddrPort("10.1.0.1:8080"), netip.MustParseAddr("10.9.9.9")
	for _, err := range []error{
		h.LinkSetUp(lo), h.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: app.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}}),
		h.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}), redirect.Apply(ns, redirect.Options{Inbound: true, DNS: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var l net.Listener
	if err := redirect.Inside(ns, func() (err error) {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40999"), 0); err != nil {
			return err
		}
		l, err = net.Listen("tcp", app.String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer l.Close()
	var others atomic.Int64
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer nc.Close()
				if addrPort(nc.RemoteAddr()).Addr() != caller {
					others.Add(1)
				}
				_, _ = io.Copy(nc, nc) // until the caller has ended
			})
		}
	})
	s, err := newSockets()
	if err != nil {
		t.Fatal(err)
	}
	defer s.own.Close()
	s.callerPorts.first, s.callerPorts.last = 2000, 2999
	var done, unspoofed, failed atomic.Int64
	var calling sync.WaitGroup
	began := time.Now()
	for range at {
		calling.Go(func() {
			for done.Add(1) <= connections {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				nc, why, err := s.dial(ctx, namespace, app, caller, nil)
				cancel()
				if err != nil {
					if failed.Add(1) == 1 {
						t.Error(err)
					}
					continue
				}
				if why != nil && unspoofed.Add(1) == 1 {
					t.Error(why)
				}
				_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
				_, err = nc.Write([]byte("x"))
				if err == nil {
					err = nc.CloseWrite()
				}
				var answer []byte
				if err == nil {
					answer, err = io.ReadAll(nc)
				}
				if (err != nil || string(answer) != "x") && failed.Add(1) == 1 {
					t.Errorf("answered %q, %v", answer, err)
				}
				nc.Close()
			}
		})
	}
	calling.Wait()
	took := time.Since(began)
	t.Logf("%d connections, %.0f a second: %d without the caller's address, %d failed", connections, connections/took.Seconds(), unspoofed.Load(), failed.Load())
	if unspoofed.Load()+others.Load()+failed.Load() > 0 {
		t.Errorf("%d were made, and %d arrived, without the caller's address; %d failed", unspoofed.Load(), others.Load(), failed.Load())
	}
}
