// SPDX-License-Identifier: Apache-2.0

//go:build netns

package redirect

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestJoiningSparesWhatIsOpen: a pod that joins the mesh while it runs keeps its connections as they were, both ways, while new ones are captured.
func TestJoiningSparesWhatIsOpen(t *testing.T) {
	for _, family := range []struct{ name, pod, node string }{{"v4", podV4, nodeV4}, {"v6", podV6, nodeV6}} {
		t.Run(family.name, func(t *testing.T) {
			s := newStage(t)
			echo(t, s.pod, join("::", 8080), false)
			echo(t, s.node, join("::", 80), false)
			open := map[string]net.Conn{
				"outbound":    dial(t, s.pod, net.Dialer{}, join(family.node, 80)),
				"inbound":     dial(t, s.node, net.Dialer{}, join(family.pod, 8080)),
				"to itself":   dial(t, s.pod, net.Dialer{}, join(family.pod, 8080)),
				"on loopback": dial(t, s.pod, net.Dialer{}, join("localhost", 8080)),
			}
			goOn := func(when string) {
				t.Helper()
				for name, c := range open {
					if err := exchange(c); err != nil {
						t.Errorf("%s, %s: %v", name, when, err)
					}
				}
			}
			goOn("before")
			serve(t, s.pod, "outbound", join("::", PortOutbound), true)
			serve(t, s.pod, "inbound", join("::", PortInbound), true)
			captured := func() {
				t.Helper()
				callCase{"new inbound", s.node, net.Dialer{}, join(family.pod, 8080), "inbound from=" + family.node + " to=" + join(family.pod, 8080)}.run(t)
				callCase{"new outbound", s.pod, net.Dialer{}, join(family.node, 80), "outbound from=" + family.pod + " to=" + join(family.node, 80)}.run(t)
			}
			enter := func() {
				t.Helper()
				_, err := Spare(s.pod)
				must(t, err)
				must(t, Repair(s.pod, Options{Inbound: true, DNS: true, IPv6: true}))
			}
			enter()
			goOn("after the pod joined")
			captured()
			must(t, Apply(s.pod, Options{Inbound: true, IPv6: true})) // as another version might
			goOn("after the rules were exchanged")
			must(t, Release(s.pod))
			goOn("after the pod left")
			open["opened outside, outbound"] = dial(t, s.pod, net.Dialer{}, join(family.node, 80))
			open["opened outside, inbound"] = dial(t, s.node, net.Dialer{}, join(family.pod, 8080))
			goOn("outside")
			enter()
			goOn("after the pod joined again")
			captured()
		})
	}
}

// TestWhateverBeginsIsCaptured: who sends something first that begins no connection, and begins after that from the same port, does not get past the proxy.
func TestWhateverBeginsIsCaptured(t *testing.T) {
	s := newStage(t)
	serve(t, s.pod, "app", join("::", 8080), false)
	serve(t, s.pod, "inbound", join("::", PortInbound), true)
	_, err := Spare(s.pod)
	must(t, err)
	must(t, Repair(s.pod, Options{Inbound: true, IPv6: true}))
	from, to := netip.MustParseAddrPort(join(nodeV4, 25000)), netip.MustParseAddrPort(join(podV4, 8080))
	sendAck(t, s, from, to)
	callCase{"after an acknowledgement", s.node, net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Control: reusePort}, to.String(), "inbound from=" + nodeV4 + " to=" + to.String()}.run(t)
}

// sendAck sends a segment that acknowledges something nobody has sent. Its signature (RFC 2385) is not expected, so that it is not answered by a reset, which would end what the kernel
// believes to be a connection.
func sendAck(t *testing.T, s stage, from, to netip.AddrPort) {
	t.Helper()
	segment := make([]byte, 40)
	binary.BigEndian.PutUint16(segment, from.Port())
	binary.BigEndian.PutUint16(segment[2:], to.Port())
	binary.BigEndian.PutUint32(segment[4:], 1)
	binary.BigEndian.PutUint32(segment[8:], 1)
	segment[12], segment[13] = 10<<4, 1<<4 // its length in words, and ACK
	segment[20], segment[21] = 19, 18      // a signature; what follows it is the end of options
	binary.BigEndian.PutUint16(segment[14:], 1024)
	pseudo := append(append(append(from.Addr().AsSlice(), to.Addr().AsSlice()...), 0, unix.IPPROTO_TCP, 0, byte(len(segment))), segment...)
	sum := uint32(0)
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(segment[16:], ^uint16(sum))
	must(t, Inside(s.node, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, segment, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
	}))
}
