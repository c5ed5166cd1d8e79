// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// connectionTrack asks the kernel where a pod's redirected packets were meant to go. A connected socket knows that of itself
// (SO_ORIGINAL_DST); one that takes packets of many clients does not.
type connectionTrack struct {
	open func() (*nl.SocketHandle, error)

	mu     sync.Mutex
	socket *nl.SocketHandle // nil while there is none
	failed error            // why there is none
	next   time.Time        // when to try again
	closed bool
}

// trackPause is how long after a failure nobody tries to open the table again: what was missing may be there by then, and each query asks.
const trackPause = 5 * time.Second

// trackTimeout is for what should never happen: the kernel answers before the question's system call returns.
var trackTimeout = unix.NsecToTimeval((200 * time.Millisecond).Nanoseconds())

// trackConnections is for the kernel's table of a namespace's connections.
func (s *sockets) trackConnections(n *Namespace) *connectionTrack {
	return &connectionTrack{open: func() (*nl.SocketHandle, error) { return s.connectionTable(n) }}
}

// connectionTable opens it.
func (s *sockets) connectionTable(n *Namespace) (*nl.SocketHandle, error) {
	var socket *nl.NetlinkSocket
	err := s.within(n, func() error {
		var err error
		socket, err = nl.Subscribe(unix.NETLINK_NETFILTER)
		return err
	})
	if err == nil {
		err = errors.Join(socket.SetSendTimeout(&trackTimeout), socket.SetReceiveTimeout(&trackTimeout))
	}
	if err != nil {
		if socket != nil {
			socket.Close()
		}
		return nil, fmt.Errorf("open connection tracking: %w", err)
	}
	return &nl.SocketHandle{Socket: socket}, nil
}

// ready opens the table, if it is not open, and says why it cannot be had.
func (c *connectionTrack) ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened()
}

// opened is ready with mu held.
func (c *connectionTrack) opened() error {
	switch {
	case c.closed:
		return errors.New("connection tracking is closed")
	case c.socket != nil:
		return nil
	case time.Now().Before(c.next):
		return c.failed
	}
	c.socket, c.failed = c.open()
	c.next = time.Now().Add(trackPause)
	return c.failed
}

func (c *connectionTrack) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.socket != nil {
		c.socket.Close()
		c.socket = nil
	}
}

// meant gives the address to which a UDP client had sent what arrived at local from it.
func (c *connectionTrack) meant(from, local netip.AddrPort) (netip.AddrPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.opened(); err != nil {
		return netip.AddrPort{}, err
	}
	family := uint8(unix.AF_INET)
	if from.Addr().Is6() {
		family = unix.AF_INET6
	}
	// Connections are found by either direction; that of our answers is the one whose addresses we know. The kernel marks its answer as one
	// of several, even if it is the only one, so that only an acknowledgement tells where it ends.
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	request.AddData(tuple(nl.CTA_TUPLE_REPLY, local, from))
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: c.socket}
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look connection up: %w", err)
	}
	for _, answer := range answers {
		if to, ok := destinationOf(answer); ok {
			return to, nil
		}
	}
	return netip.AddrPort{}, errors.New("look connection up: no original destination in the answer")
}

// tuple names one direction of a UDP connection.
func tuple(kind int, from, to netip.AddrPort) *nl.RtAttr {
	port := func(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
	source, destination := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if from.Addr().Is6() {
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	t := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
	ip := t.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	ip.AddRtAttr(source, from.Addr().AsSlice())
	ip.AddRtAttr(destination, to.Addr().AsSlice())
	protocol := t.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	protocol.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	protocol.AddRtAttr(nl.CTA_PROTO_SRC_PORT, port(from.Port()))
	protocol.AddRtAttr(nl.CTA_PROTO_DST_PORT, port(to.Port()))
	return t
}

// destinationOf reads where the first packet of a connection was sent to, from the kernel's description of the connection.
func destinationOf(message []byte) (netip.AddrPort, bool) {
	if len(message) < nl.SizeofNfgenmsg {
		return netip.AddrPort{}, false
	}
	original, ok := attribute(message[nl.SizeofNfgenmsg:], nl.CTA_TUPLE_ORIG)
	if !ok {
		return netip.AddrPort{}, false
	}
	ip, _ := attribute(original, nl.CTA_TUPLE_IP)
	raw, ok := attribute(ip, nl.CTA_IP_V4_DST)
	if !ok {
		raw, _ = attribute(ip, nl.CTA_IP_V6_DST)
	}
	addr, ok := netip.AddrFromSlice(raw)
	protocol, _ := attribute(original, nl.CTA_TUPLE_PROTO)
	port, _ := attribute(protocol, nl.CTA_PROTO_DST_PORT)
	if !ok || len(port) != 2 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(port)), true
}

// attribute finds one netlink attribute in a list: length and type of two bytes each in the host's order, then the value, then up to
// three bytes until the next multiple of four.
func attribute(list []byte, kind int) ([]byte, bool) {
	for len(list) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(list))
		if length < unix.SizeofNlAttr || length > len(list) {
			return nil, false
		}
		if int(binary.NativeEndian.Uint16(list[2:]))&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return list[unix.SizeofNlAttr:length], true
		}
		list = list[min(len(list), (length+3)&^3):]
	}
	return nil, false
}
