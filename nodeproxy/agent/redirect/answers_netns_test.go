// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestApplicationAnswersOverLoopback: what the proxy opens toward the application from its caller's address stays in the pod, and so both ends of it send as much at once as lo takes, and not
// what the device takes by which the caller would be reached.
func TestApplicationAnswersOverLoopback(t *testing.T) {
	for _, family := range []struct{ name, pod, node string }{{"v4", podV4, nodeV4}, {"v6", podV6, nodeV6}} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			must(t, Apply(s.pod, Options{Inbound: true, DNS: true, IPv6: true}))
			must(t, AcceptMarks(s.pod))
			for name, caller := range map[string]net.Addr{"as the caller": &net.TCPAddr{IP: net.ParseIP(family.node)}, "as the pod": nil} {
				app, proxy := pair(t, s, join(family.pod, 8080), net.Dialer{Control: socketOptions(t), LocalAddr: caller})
				for end, c := range map[string]*net.TCPConn{"application": app, "proxy": proxy} {
					// The MTU of lo is 65536; at first, a packet holds half of the peer's window at most.
					if i := tcpInfo(t, c); i.Snd_mss < 32000 || i.Advmss < 65000 {
						t.Errorf("%s: the %s sends %d bytes at most, and asks for %d", name, end, i.Snd_mss, i.Advmss)
					}
				}
			}
		})
	}
}

// pair gives both ends of a connection to an application in the pod.
func pair(t *testing.T, s stage, addr string, d net.Dialer) (app, other *net.TCPConn) {
	t.Helper()
	var l net.Listener
	must(t, Inside(s.pod, func() (err error) {
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		return err
	}))
	defer l.Close()
	other = dial(t, s.pod, d, addr).(*net.TCPConn)
	c, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), other
}

func tcpInfo(t *testing.T, c *net.TCPConn) (info *unix.TCPInfo) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	must(t, err)
	return info
}

// TestMarkOfAnAcceptedSocketFreesNobody: a socket that was accepted can be connected anew, to anywhere, and has its mark still. It gets no further than the pod.
func TestMarkOfAnAcceptedSocketFreesNobody(t *testing.T) {
	for _, family := range []struct{ name, pod, node string }{{"v4", podV4, nodeV4}, {"v6", podV6, nodeV6}} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			must(t, Apply(s.pod, Options{Inbound: true, DNS: true, IPv6: true}))
			must(t, AcceptMarks(s.pod))
			serve(t, s.node, "world", join("::", 80), false)
			app, _ := pair(t, s, join(family.pod, 8080), net.Dialer{Control: socketOptions(t), LocalAddr: &net.TCPAddr{IP: net.ParseIP(family.node)}})
			file, err := app.File() // which blocks
			must(t, err)
			defer file.Close()
			fd := int(file.Fd())
			if mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK); err != nil || mark != MarkReply {
				t.Fatalf("the accepted socket has the mark 0x%x, %v", mark, err)
			}
			_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unix.RawSockaddr{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrAny)
			if errno != 0 {
				t.Fatal(errno)
			}
			to := netip.MustParseAddrPort(join(family.node, 80))
			var address unix.Sockaddr = &unix.SockaddrInet4{Port: 80, Addr: [4]byte(to.Addr().AsSlice()[:4])}
			if to.Addr().Is6() {
				address = &unix.SockaddrInet6{Port: 80, Addr: to.Addr().As16()}
			}
			must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}))
			must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}))
			if err := unix.Connect(fd, address); err == nil {
				t.Error("it is connected to the world")
			}
		})
	}
}

// TestAcceptedMarksAreSwitchedBack: a pod that leaves is as it was, with what it had on before still on.
func TestAcceptedMarksAreSwitchedBack(t *testing.T) {
	for name, leave := range map[string]func(*os.File) error{"release": Release, "remove": Remove} {
		for _, before := range []string{"0", "1"} {
			t.Run(name+" "+before, func(t *testing.T) {
				pod := newNamespace(t)
				parameter := func(write string) (value string) {
					t.Helper()
					must(t, Inside(pod, func() error {
						if write != "" {
							return os.WriteFile("/proc/sys/"+acceptMarks, []byte(write), 0)
						}
						b, err := os.ReadFile("/proc/sys/" + acceptMarks)
						value = strings.TrimSpace(string(b))
						return err
					}))
					return value
				}
				parameter(before)
				must(t, Apply(pod, Options{}))
				for range 2 {
					must(t, AcceptMarks(pod))
				}
				if now := parameter(""); now == "0" || before == "1" && now != "1" {
					t.Errorf("in the mesh it is %s", now)
				}
				for range 2 {
					must(t, leave(pod))
				}
				if now := parameter(""); now != before {
					t.Errorf("afterwards it is %s, want %s", now, before)
				}
			})
		}
	}
}
