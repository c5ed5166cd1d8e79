// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// The stage: a pod and its node, joined by a veth pair. The node also plays the world outside.
const (
	podV4, nodeV4 = "10.77.0.2", "10.77.0.1"
	podV6, nodeV6 = "fd77::2", "fd77::1"
)

type stage struct{ pod, node *os.File }

// newNamespace makes a network namespace that lives as long as its file is open.
func newNamespace(t *testing.T) *os.File {
	t.Helper()
	f, err := netspace.New()
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func newStage(t *testing.T) stage {
	t.Helper()
	s := stage{pod: newNamespace(t), node: newNamespace(t)}
	must(t, Inside(s.node, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(s.pod.Fd()))})
	}))
	up := func(ns *os.File, own []string, via []string) {
		t.Helper()
		h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
		must(t, err)
		defer h.Close()
		for _, name := range []string{"lo", "eth0"} {
			l, err := h.LinkByName(name)
			must(t, err)
			must(t, h.LinkSetUp(l))
			if name == "lo" {
				continue
			}
			for _, a := range own {
				addr, err := netlink.ParseAddr(a)
				must(t, err)
				addr.Flags = unix.IFA_F_NODAD
				must(t, h.AddrAdd(l, addr))
			}
			for _, gw := range via {
				must(t, h.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw), LinkIndex: l.Attrs().Index}))
			}
		}
	}
	up(s.node, []string{nodeV4 + "/24", nodeV6 + "/64"}, nil)
	up(s.pod, []string{podV4 + "/24", podV6 + "/64"}, []string{nodeV4, nodeV6})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// socketOptions are the proxy's: its mark, and the right to use addresses that are not ours.
func socketOptions(t *testing.T) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		ctl := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, MarkProxy); err != nil {
				return
			}
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
		})
		if ctl != nil {
			return ctl
		}
		return err
	}
}

// serve listens in a namespace and answers each connection with one line: its name, who it says called, and where it was meant to go.
func serve(t *testing.T, ns *os.File, name, addr string, asProxy bool) {
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s from=%s to=%s\n", name, host(c.RemoteAddr()), originalDestination(c.(*net.TCPConn)))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func host(a net.Addr) string { return netip.MustParseAddrPort(a.String()).Addr().Unmap().String() }

func originalDestination(c *net.TCPConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	local := netip.MustParseAddrPort(c.LocalAddr().String())
	dst := netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	_ = raw.Control(func(fd uintptr) {
		if dst.Addr().Is4() {
			// A sockaddr_in fits into the multicast request that the library reads; the same trick as everywhere.
			if m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, 80); err == nil {
				b := m.Multiaddr
				dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
			return
		}
		if m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, 80); err == nil {
			p := m.Addr.Port
			dst = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), p<<8|p>>8)
		}
	})
	return dst.String()
}

// call dials in a namespace and gives the line that it is answered.
func call(ns *os.File, d *net.Dialer, addr string) (string, error) {
	d.Timeout = 2 * time.Second
	var c net.Conn
	if err := Inside(ns, func() error {
		var err error
		c, err = d.Dial("tcp", addr)
		return err
	}); err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

type callCase struct {
	name string
	from *os.File
	dial net.Dialer
	to   string
	want string // "" wants a failure
}

func (c callCase) run(t *testing.T) {
	t.Run(c.name, func(t *testing.T) {
		got, err := call(c.from, &c.dial, c.to)
		if (err != nil) != (c.want == "") || got != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.to, got, err, c.want)
		}
	})
}

func join(a string, port int) string { return net.JoinHostPort(a, fmt.Sprint(port)) }

func TestTrafficIsCaptured(t *testing.T) {
	for _, family := range []struct{ name, pod, node, loopback, probe string }{
		{"v4", podV4, nodeV4, "127.0.0.1", ProbeSourceV4.String()},
		{"v6", podV6, nodeV6, "::1", ProbeSourceV6.String()},
	} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			pod, node := family.pod, family.node
			serve(t, s.pod, "app", join("::", 8080), false)
			serve(t, s.pod, "outbound", join("::", PortOutbound), true)
			serve(t, s.pod, "inbound", join("::", PortInbound), true)
			serve(t, s.pod, "tunnel", join("::", PortTunnel), true)
			serve(t, s.pod, "dns", join(family.loopback, PortDNS), true)
			serve(t, s.node, "world", join("::", 80), false)
			serve(t, s.node, "nameserver", join("::", 53), false)

			marked := net.Dialer{Control: socketOptions(t)}
			asCaller := net.Dialer{Control: socketOptions(t), LocalAddr: &net.TCPAddr{IP: net.ParseIP(node)}}
			// The kubelet's own address, which the node gives it when Probes are there.
			direct := []callCase{
				{"out", s.pod, net.Dialer{}, join(node, 80), "world from=" + pod + " to=" + join(node, 80)},
				{"in", s.node, net.Dialer{}, join(pod, 8080), "app from=" + node + " to=" + join(pod, 8080)},
			}
			for _, c := range direct {
				c.name = "before/" + c.name
				c.run(t)
			}

			o := Options{Inbound: true, DNS: true, IPv6: true}
			for range 2 { // the second time changes nothing
				must(t, Apply(s.pod, o))
			}
			for _, c := range []callCase{
				{"outbound is captured", s.pod, net.Dialer{}, join(node, 80), "outbound from=" + pod + " to=" + join(node, 80)},
				{"outbound to where nothing is, too", s.pod, net.Dialer{}, join(node, 81), "outbound from=" + pod + " to=" + join(node, 81)},
				{"the proxy's outbound is not", s.pod, marked, join(node, 80), "world from=" + pod + " to=" + join(node, 80)},
				{"inbound is captured", s.node, net.Dialer{}, join(pod, 8080), "inbound from=" + node + " to=" + join(pod, 8080)},
				{"the tunnel is reached directly", s.node, net.Dialer{}, join(pod, PortTunnel), "tunnel from=" + node + " to=" + join(pod, PortTunnel)},
				{"the proxy reaches the application with the caller's address", s.pod, asCaller, join(pod, 8080), "app from=" + node + " to=" + join(pod, 8080)},
				{"the pod calls itself", s.pod, net.Dialer{}, join(pod, 8080), "app from=" + pod + " to=" + join(pod, 8080)},
				{"loopback", s.pod, net.Dialer{}, join(family.loopback, 8080), "app from=" + family.loopback + " to=" + join(family.loopback, 8080)},
				{"DNS over TCP is captured", s.pod, net.Dialer{}, join(node, 53), "dns from=" + pod + " to=" + join(node, 53)},
				{"the proxy's DNS over TCP is not", s.pod, marked, join(node, 53), "nameserver from=" + pod + " to=" + join(node, 53)},
			} {
				c.run(t)
			}

			t.Run("probes", func(t *testing.T) {
				probes := NewProbes(s.node, uint32(os.Getuid()))
				must(t, probes.Reset(nil))
				callCase{"of a pod that is not enrolled", s.node, net.Dialer{}, join(pod, 8080), "inbound from=" + node + " to=" + join(pod, 8080)}.run(t)
				must(t, probes.Add([]netip.Addr{netip.MustParseAddr(pod)}))
				must(t, probes.Add([]netip.Addr{netip.MustParseAddr(pod)}))
				callCase{"of an enrolled pod", s.node, net.Dialer{}, join(pod, 8080), "app from=" + family.probe + " to=" + join(pod, 8080)}.run(t)
				must(t, NewProbes(s.node, 4242).Reset([]netip.Addr{netip.MustParseAddr(pod)}))
				callCase{"of another user", s.node, net.Dialer{}, join(pod, 8080), "inbound from=" + node + " to=" + join(pod, 8080)}.run(t)
				must(t, probes.Reset([]netip.Addr{netip.MustParseAddr(pod)}))
				must(t, probes.Delete([]netip.Addr{netip.MustParseAddr(pod)}))
				must(t, probes.Delete([]netip.Addr{netip.MustParseAddr(pod)}))
				callCase{"of a pod that left", s.node, net.Dialer{}, join(pod, 8080), "inbound from=" + node + " to=" + join(pod, 8080)}.run(t)
				must(t, probes.Close())
				must(t, probes.Close())
			})

			t.Run("ingress", func(t *testing.T) {
				must(t, Apply(s.pod, Options{DNS: true, IPv6: true}))
				callCase{"inbound passes", s.node, net.Dialer{}, join(pod, 8080), "app from=" + node + " to=" + join(pod, 8080)}.run(t)
				callCase{"outbound is captured", s.pod, net.Dialer{}, join(node, 80), "outbound from=" + pod + " to=" + join(node, 80)}.run(t)
			})

			for range 2 {
				must(t, Remove(s.pod))
			}
			for _, c := range direct {
				c.name = "after/" + c.name
				c.run(t)
			}
		})
	}
}

func TestNothingListensMeansRefused(t *testing.T) {
	s := newStage(t)
	serve(t, s.node, "world", join("::", 80), false)
	serve(t, s.pod, "app", join("::", 8080), false)
	must(t, Apply(s.pod, Options{Inbound: true, DNS: true, IPv6: true}))
	callCase{"outbound", s.pod, net.Dialer{}, join(nodeV4, 80), ""}.run(t)
	callCase{"inbound", s.node, net.Dialer{}, join(podV4, 8080), ""}.run(t)
}

// answer answers datagrams in a namespace with its name and what they say.
func answer(t *testing.T, ns *os.File, name, addr string, asProxy bool) {
	t.Helper()
	var lc net.ListenConfig
	if asProxy {
		lc.Control = socketOptions(t)
	}
	var pc net.PacketConn
	must(t, Inside(ns, func() error {
		var err error
		pc, err = lc.ListenPacket(context.Background(), "udp", addr)
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(name+" "+string(buf[:n])), from)
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
}

// A captured query and the proxy's own query for it may share all addresses and ports.
func TestDNSOverUDP(t *testing.T) {
	s := newStage(t)
	answer(t, s.pod, "proxy", join("127.0.0.1", PortDNS), true)
	answer(t, s.node, "nameserver", join(nodeV4, 53), false)
	must(t, Apply(s.pod, Options{Inbound: true, DNS: true, IPv6: true}))

	ask := func(d net.Dialer, want string) {
		t.Helper()
		var c net.Conn
		must(t, Inside(s.pod, func() error {
			var err error
			c, err = d.Dial("udp", join(nodeV4, 53))
			return err
		}))
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(2*time.Second)))
		_, err := c.Write([]byte("q"))
		must(t, err)
		buf := make([]byte, 512)
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("answer %q, %v; want %q", buf[:n], err, want)
		}
	}
	fromPort := &net.UDPAddr{IP: net.ParseIP(podV4), Port: 33469}
	reuse := func(n, a string, c syscall.RawConn) error {
		var err error
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}
	ask(net.Dialer{LocalAddr: fromPort, Control: reuse}, "proxy q")
	ask(net.Dialer{LocalAddr: fromPort, Control: socketOptions(t)}, "nameserver q")
	ask(net.Dialer{LocalAddr: fromPort, Control: reuse}, "proxy q")
}

// A DNS server in the pod answers who asks it, also another server that asks from port 53: its answers, which go from 53 to 53, are no queries.
func TestServersAnswerServers(t *testing.T) {
	for _, family := range []struct{ name, pod, node, loopback string }{{"v4", podV4, nodeV4, "127.0.0.1"}, {"v6", podV6, nodeV6, "::1"}} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			answer(t, s.pod, "proxy", join(family.loopback, PortDNS), true)
			answer(t, s.pod, "nameserver", join(family.pod, 53), false)
			must(t, Apply(s.pod, Options{Inbound: true, DNS: true, IPv6: true}))
			for _, from := range []int{53, 40053, 53} {
				d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(family.node), Port: from}}
				var c net.Conn
				must(t, Inside(s.node, func() (err error) {
					c, err = d.Dial("udp", join(family.pod, 53))
					return err
				}))
				must(t, c.SetDeadline(time.Now().Add(2*time.Second)))
				_, err := c.Write([]byte("q"))
				must(t, err)
				buf := make([]byte, 512)
				if n, err := c.Read(buf); err != nil || string(buf[:n]) != "nameserver q" {
					t.Errorf("from port %d: %q, %v", from, buf[:n], err)
				}
				c.Close()
			}
		})
	}
}

// What the kernel was told is what the rules say: nft lists our tables as we write them.
func TestKernelAgreesWithTheText(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Fatal("nft is not installed; make tools installs it")
	}
	s := newStage(t)
	o := Options{Inbound: true, DNS: true, IPv6: true, VirtualInterfaces: []string{"tap0"}}
	must(t, Apply(s.pod, o))
	must(t, Apply(s.pod, o))
	texts := map[string]string{tableZone: zoneText()}
	for _, table := range Rules(o) {
		texts[table.Name] = table.String()
	}
	for table, text := range texts {
		var out []byte
		must(t, Inside(s.pod, func() error {
			var err error
			out, err = exec.Command(nft, "-nn", "list", "table", "inet", table).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}))
		if diff := cmp.Diff(words(text), words(string(out))); diff != "" {
			t.Errorf("table %s (-ours +nft's):\n%s", table, diff)
		}
	}
}

// words evens out what differs between versions of nft: white space, names of numbers, and how matches on protocols are folded.
func words(s string) []string {
	s = strings.NewReplacer("priority raw", "priority -300", "priority mangle", "priority -150", "priority dstnat", "priority -100",
		"l4proto 6 ", "l4proto tcp ", "l4proto 17 ", "l4proto udp ",
		"ct mark & 0xfffff111 |", "ct mark & 0xfffff000 |", // the same: the bits are set in the next step
	).Replace(s)
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestHolds(t *testing.T) {
	s := newStage(t)
	for _, tt := range []struct {
		ns   *os.File
		ip   string
		want bool
	}{{s.pod, podV4, true}, {s.pod, podV6, true}, {s.pod, nodeV4, false}, {s.node, nodeV4, true}} {
		got, err := Holds(tt.ns, []netip.Addr{netip.MustParseAddr(tt.ip)})
		if err != nil || got != tt.want {
			t.Errorf("namespace holds %s: %v, %v; want %v", tt.ip, got, err, tt.want)
		}
	}
	if has, err := PrepareIPv6(s.pod); err != nil || !has {
		t.Errorf("IPv6: %v, %v", has, err)
	}
}
