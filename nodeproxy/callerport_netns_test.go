// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// A captured connection and one of ours under its caller's address and port are not the same to the kernel, and ours keep no application from listening.
func TestCallersPortIsNobodyElses(t *testing.T) {
	check := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	pod, err := netspace.New()
	check(err)
	outside, err := netspace.New()
	check(err)
	defer outside.Close()
	n, err := NewNamespace(pod)
	check(err)
	defer n.Close()
	inPod, err := netlink.NewHandleAt(netns.NsHandle(pod.Fd()))
	check(err)
	defer inPod.Close()
	inOutside, err := netlink.NewHandleAt(netns.NsHandle(outside.Fd()))
	check(err)
	defer inOutside.Close()
	app, caller := netip.MustParseAddrPort("10.7.0.1:8080"), netip.MustParseAddr("10.7.0.2")
	check(inPod.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(outside.Fd()))}))
	for addr, h := range map[netip.Addr]*netlink.Handle{app.Addr(): inPod, caller: inOutside} {
		for _, name := range []string{"lo", "eth0"} {
			link, err := h.LinkByName(name)
			check(err)
			if name == "eth0" {
				check(h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}))
			}
			check(h.LinkSetUp(link))
		}
	}
	check(redirect.Apply(pod, redirect.Options{Inbound: true, DNS: true}))
	s, err := newSockets()
	check(err)
	defer s.own.Close()
	fd, err := s.listen(n, redirect.PortInbound, true)
	check(err)
	listening := os.NewFile(uintptr(fd), "plaintext")
	defer listening.Close()
	opened, err := net.FileListener(listening)
	check(err)
	entrance := opened.(*net.TCPListener)
	defer entrance.Close()
	var l net.Listener
	check(redirect.Inside(pod, func() (err error) { l, err = net.Listen("tcp", app.String()); return err }))
	var serving sync.WaitGroup
	defer serving.Wait()
	defer l.Close()
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { defer nc.Close(); _, _ = io.Copy(nc, nc) })
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	var direct net.Conn
	check(redirect.Inside(outside, func() (err error) {
		direct, err = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: caller.AsSlice(), Port: 25000}, Timeout: 10 * time.Second}).Dial("tcp", app.String())
		return err
	}))
	defer direct.Close()
	check(entrance.SetDeadline(time.Now().Add(10 * time.Second)))
	captured, err := entrance.AcceptTCP()
	check(err)
	defer captured.Close()

	s.callerPorts.first, s.callerPorts.last = 25000, 25001
	reserved := func(port uint16) bool { return port == 25001 }
	for i := range 2 { // the first has the captured connection's port, the second finds none of its own choice, and has the kernel's
		nc, unspoofed, err := s.dial(ctx, n, app, caller, reserved)
		check(unspoofed, err)
		defer nc.Close()
		from := addrPort(nc.LocalAddr())
		if from.Addr() != caller || from.Port() == 25001 || (from.Port() == 25000) != (i == 0) {
			t.Errorf("connected from %v", from)
		}
		check(echoes(nc, nc))
	}
	check(echoes(direct, captured))

	// Whatever we choose, an application that sets no option has the ports that servers have.
	check(redirect.Inside(pod, func() error {
		plain := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) }), err)
		}}
		again, err := plain.Listen(ctx, "tcp4", ":25001") // reserved
		if err == nil {
			again.Close()
		}
		return err
	}))
	fresh, err := newSockets()
	check(err)
	defer fresh.own.Close()
	for range 1 << 16 {
		if p := fresh.callerPorts.next(); p < 24576 || p > 32767 {
			t.Fatalf("chose port %d, where applications listen or callers choose", p)
		}
	}
}

// echoes says whether what is written at one end of a connection can be read at the other.
func echoes(from, to net.Conn) error {
	deadline := time.Now().Add(5 * time.Second)
	err := errors.Join(from.SetDeadline(deadline), to.SetDeadline(deadline))
	if _, wrote := from.Write([]byte("x")); wrote != nil {
		err = errors.Join(err, wrote)
	}
	_, read := io.ReadFull(to, make([]byte, 1))
	return errors.Join(err, read)
}
