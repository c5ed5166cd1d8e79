// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Spare has the TCP connections that a namespace has open now pass by the capture that is applied next, and says how many these are. It is for a pod that runs outside of the mesh and joins.
//
// The kernel translates addresses by the first packet of a connection that it sees, and until now it looked at none: the next packet of a connection that is open would be led to the proxy, which
// knows nothing of it and would end it. So the kernel is told of each of them. (Rules for packets that begin a connection, and no others, would do so too; but then whoever sends something
// else first, and begins after that, would reach the application: for the kernel both are one connection.)
func Spare(pod *os.File) (int, error) {
	// From here on the kernel looks: what begins after the list was made is known to it.
	if err := applyZone(pod); err != nil {
		return 0, err
	}
	open, err := openConnections(pod)
	if err != nil || len(open) == 0 {
		return 0, err
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(pod.Fd())})
	if err != nil {
		return 0, fmt.Errorf("connection tracking: %w", err)
	}
	defer c.Close() //nolint:errcheck // what was asked has its answer
	spared := 0
	for _, o := range open {
		m, err := o.message()
		if err != nil {
			return spared, err
		}
		if _, err = c.Execute(m); err == nil {
			spared++
		} else if !errors.Is(err, unix.EEXIST) { // it was looked at before, or is the other end of one that was told already
			return spared, fmt.Errorf("tell the kernel of a connection: %w", err)
		}
	}
	return spared, nil
}

// connection is one that a socket has.
type connection struct{ local, remote netip.AddrPort }

func openConnections(pod *os.File) (all []connection, err error) {
	err = Inside(pod, func() error {
		for _, name := range []string{"tcp", "tcp6"} {
			// The kernel resolves this path by the network namespace of the thread that opens it.
			f, err := os.Open("/proc/thread-self/net/" + name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return err
			}
			defer f.Close()
			lines := bufio.NewScanner(f)
			for lines.Scan() {
				if c, ok := parseConnection(lines.Text()); ok {
					all = append(all, c)
				}
			}
			if err := lines.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return all, nil
}

// notOpen are the states (the kernel's, as in linux/net/tcp_states.h) of sockets that have no connection: TIME_WAIT, CLOSE and LISTEN.
var notOpen = map[string]bool{"06": true, "07": true, "0A": true}

// parseConnection reads a line of /proc/net/tcp or tcp6: number, addresses of both ends, state, and more.
func parseConnection(line string) (connection, bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || notOpen[fields[3]] {
		return connection{}, false
	}
	local, one := parseAddress(fields[1])
	remote, two := parseAddress(fields[2])
	return connection{local, remote}, one && two
}

// parseAddress reads an address as a row of 32-bit numbers, each of which the kernel prints as the machine has it in memory, and a port.
func parseAddress(s string) (netip.AddrPort, bool) {
	addr, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(addr)
	p, portErr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || portErr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range len(raw) / 4 {
		b := raw[4*word : 4*word+4]
		binary.NativeEndian.PutUint32(b, binary.BigEndian.Uint32(b))
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}

const (
	// sparedStatus is that of a connection of which both directions have been seen: IPS_SEEN_REPLY, IPS_ASSURED and IPS_CONFIRMED of linux/netfilter/nf_conntrack_common.h. Nothing asks
	// the rules about its packets any more.
	sparedStatus = 1<<1 | 1<<2 | 1<<3
	// sparedTimeout is how long it may be silent, in seconds, until its next packet: five days, the kernel's own default. From then on the pod's net.netfilter.nf_conntrack_tcp_timeout_established counts.
	sparedTimeout = 5 * 24 * 60 * 60
	// established is TCP_CONNTRACK_ESTABLISHED, and liberal IP_CT_TCP_FLAG_BE_LIBERAL, of linux/netfilter/nf_conntrack_tcp.h: which sequence numbers are right is not known.
	established, liberal = 3, 1 << 3
)

// message orders the kernel to know of the connection, and to leave it alone if it does already.
func (o connection) message() (netlink.Message, error) {
	family := byte(unix.AF_INET)
	if o.local.Addr().Is6() {
		family = unix.AF_INET6
	}
	b, err := attributes(func(e *netlink.AttributeEncoder) {
		e.Nested(nl.CTA_TUPLE_ORIG, direction(o.local, o.remote))
		e.Nested(nl.CTA_TUPLE_REPLY, direction(o.remote, o.local))
		e.Uint32(nl.CTA_STATUS, sparedStatus)
		e.Uint32(nl.CTA_TIMEOUT, sparedTimeout)
		e.Nested(nl.CTA_PROTOINFO, func(e *netlink.AttributeEncoder) error {
			e.Nested(nl.CTA_PROTOINFO_TCP, func(e *netlink.AttributeEncoder) error {
				e.Uint8(nl.CTA_PROTOINFO_TCP_STATE, established)
				e.Bytes(nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, []byte{liberal, liberal})
				e.Bytes(nl.CTA_PROTOINFO_TCP_FLAGS_REPLY, []byte{liberal, liberal})
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return netlink.Message{}, fmt.Errorf("describe a connection: %w", err)
	}
	return netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_CTNETLINK<<8 | nl.IPCTNL_MSG_CT_NEW,
			Flags: netlink.Request | netlink.Create | netlink.Excl | netlink.Acknowledge,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, b...),
	}, nil
}

// direction names one direction of a connection.
func direction(from, to netip.AddrPort) func(*netlink.AttributeEncoder) error {
	source, destination := uint16(nl.CTA_IP_V4_SRC), uint16(nl.CTA_IP_V4_DST)
	if from.Addr().Is6() {
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	return func(e *netlink.AttributeEncoder) error {
		e.Nested(nl.CTA_TUPLE_IP, func(e *netlink.AttributeEncoder) error {
			e.Bytes(source, from.Addr().AsSlice())
			e.Bytes(destination, to.Addr().AsSlice())
			return nil
		})
		e.Nested(nl.CTA_TUPLE_PROTO, func(e *netlink.AttributeEncoder) error {
			e.Uint8(nl.CTA_PROTO_NUM, unix.IPPROTO_TCP)
			e.Uint16(nl.CTA_PROTO_SRC_PORT, from.Port())
			e.Uint16(nl.CTA_PROTO_DST_PORT, to.Port())
			return nil
		})
		return nil
	}
}
