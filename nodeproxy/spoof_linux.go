// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A connection under a caller's address needs a port of that address. The kernel chooses one of 28,232, does not take one again that is in TIME-WAIT, and whose side of a connection
// ends first is there for a minute: at 470 connections a second from one caller there are none left. A port that is asked for by number is taken again all the same, if the connection before had
// timestamps by which its stray packets are told apart (RFC 6191; tcp_twsk_unique in the kernel). So we choose: one after the other, so that each rests for as long as it can.
const (
	// firstCallerPort and lastCallerPort are below those that the kernel chooses from by default (net.ipv4.ip_local_port_range), so that there are more, and above most of those that applications listen on: who listens without SO_REUSEADDR cannot have a port that a connection of ours holds, at whatever address.
	firstCallerPort, lastCallerPort = 24576, 32767
	// callerPortTries is how many are tried before the kernel is asked: of those that are chosen one may be listened on in the pod, be kept for that, or have a connection to the same port that lives.
	callerPortTries = 8
)

// ports are given one after the other, and again from the first.
type ports struct {
	first, last uint16
	given       atomic.Uint32
}

func (p *ports) next() uint16 { return p.first + uint16(p.given.Add(1)%uint32(p.last-p.first+1)) }

var errOtherFamily = errors.New("the caller's address is of another family")

// dialAs connects from another's address. It chooses no port that is reserved (nil: none is). That the caller may use the same one is no matter: the pod's rules keep the two apart (z1).
func (s *sockets) dialAs(ctx context.Context, n *Namespace, to netip.AddrPort, source netip.Addr, reserved func(port uint16) bool) (net.Conn, error) {
	if source.Is4() != to.Addr().Is4() {
		return nil, errOtherFamily
	}
	for range callerPortTries {
		from := netip.AddrPortFrom(source, s.callerPorts.next())
		if reserved != nil && reserved(from.Port()) {
			continue
		}
		nc, err := s.dialFrom(ctx, n, to, from)
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nc, err
		}
	}
	return s.dialFrom(ctx, n, to, netip.AddrPortFrom(source, 0))
}

// dialFrom connects from an address that need not be ours, and from a port of the kernel's choice if it is 0.
func (s *sockets) dialFrom(ctx context.Context, n *Namespace, to, from netip.AddrPort) (net.Conn, error) {
	fd, err := s.stocked(n, domain(to.Addr()))
	if err != nil {
		return nil, err
	}
	option, name := unix.SO_REUSEADDR, "setsockopt SO_REUSEADDR"
	level := unix.SOL_SOCKET
	if from.Port() == 0 { // chosen when it is known where the connection goes: a port may have one to each
		level, option, name = unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, "setsockopt IP_BIND_ADDRESS_NO_PORT"
	}
	err = errors.Join(beTransparent(fd, from.Addr()), os.NewSyscallError("setsockopt IP_FREEBIND", freeBind(fd, from.Addr())), os.NewSyscallError(name, unix.SetsockoptInt(fd, level, option, 1)))
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, sockaddr(from)))
	}
	if err != nil {
		discard(fd)
		return nil, &unboundError{from, err}
	}
	nc, err := connect(ctx, fd, to)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		err = &unboundError{from, err}
	}
	return nc, err
}

// unboundError says that a connection could not be made from an address, wherever it goes.
type unboundError struct {
	from netip.AddrPort
	err  error
}

func (e *unboundError) Error() string { return fmt.Sprintf("use address %v: %v", e.from, e.err) }
func (e *unboundError) Unwrap() error { return e.err }
