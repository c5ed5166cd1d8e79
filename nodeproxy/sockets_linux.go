// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// packetMark is on every socket of ours in a pod's namespace, so that the rules there let its packets pass (docs/redirection.md).
	packetMark = 0x539
	// backlog is how many connections may wait to be accepted, per listener; the kernel lowers it to net.core.somaxconn.
	backlog = 4096
	// originalDestination is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv4.h, netfilter_ipv6/ip6_tables.h).
	originalDestination = 80
)

// keepAlive finds peers that vanished without a word (ztunnel's values).
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 180 * time.Second, Interval: 180 * time.Second, Count: 9}

// NamespaceID tells network namespaces apart: the device and inode of the file that stands for one.
type NamespaceID struct{ Device, Inode uint64 }

// Namespace is a network namespace in which sockets are made. A socket stays in the namespace in which it was made, so a thread
// enters only for the moment of making it.
type Namespace struct {
	file *os.File
	id   NamespaceID
	// stock4 and stock6 are sockets of each family for connections to come.
	stock4, stock6 stock
}

// NewNamespace takes a file of /proc/*/ns/net or of a mount of one. It owns the file, also when it fails.
func NewNamespace(file *os.File) (*Namespace, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		file.Close()
		return nil, fmt.Errorf("identify network namespace: %w", err)
	}
	return &Namespace{file: file, id: NamespaceID{stat.Dev, stat.Ino}}, nil
}

// ID identifies the namespace for as long as somebody holds it open.
func (n *Namespace) ID() NamespaceID { return n.id }

// Close lets go of the namespace; sockets that are in use there stay.
func (n *Namespace) Close() error {
	n.stock4.close()
	n.stock6.close()
	return n.file.Close()
}

// sockets makes sockets in namespaces.
type sockets struct {
	own         *os.File // the namespace to return to
	callerPorts ports    // see dialAs
}

// newSockets also tries out whether this process may do what is needed, to fail early rather than at the first pod.
func newSockets() (*sockets, error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	s := &sockets{own: own, callerPorts: ports{first: firstCallerPort, last: lastCallerPort}}
	s.callerPorts.given.Store(rand.Uint32()) // or two processes in an upgrade choose the same
	fd, err := s.socket(&Namespace{file: own}, unix.AF_INET, unix.SOCK_STREAM)
	if err != nil {
		own.Close()
		return nil, fmt.Errorf("try a marked socket (CAP_SYS_ADMIN and CAP_NET_ADMIN are needed): %w", err)
	}
	return s, unix.Close(fd)
}

// within runs f on a thread that is inside the namespace. f must not start goroutines that need to be there.
func (s *sockets) within(n *Namespace, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := enter(n.file); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err := f()
		if back := enter(s.own); back != nil {
			// The goroutine ends with its thread locked, which ends the thread: nobody must ever run in the wrong namespace.
			done <- errors.Join(err, fmt.Errorf("return to own network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// enter holds the file open meanwhile, so that its number cannot become that of another one.
func enter(file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = unix.Setns(int(fd), unix.CLONE_NEWNET) }); err != nil {
		return err
	}
	return result
}

// socket makes a marked, non-blocking socket.
func (s *sockets) socket(n *Namespace, domain, kind int) (fd int, err error) {
	fds, err := s.batch(n, domain, kind, 1)
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// stocked gives a TCP socket to connect with, of the namespace's stock.
func (s *sockets) stocked(n *Namespace, domain int) (fd int, err error) {
	if domain == unix.AF_INET {
		return n.stock4.take(s, n, domain)
	}
	return n.stock6.take(s, n, domain)
}

// listen opens a TCP socket that listens on all addresses of both families, or of IPv4 alone where the namespace has no IPv6. Two processes may
// listen at once, so that there can be a proxy beside one that does not answer any more. transparent lets connections keep addresses that are not
// ours; it is tried, and not needed.
func (s *sockets) listen(n *Namespace, port uint16, transparent bool) (int, error) {
	fd, err := s.listenAt(n, netip.AddrPortFrom(netip.IPv6Unspecified(), port), transparent)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		fd, err = s.listenAt(n, netip.AddrPortFrom(netip.IPv4Unspecified(), port), transparent)
	}
	return fd, err
}

func (s *sockets) listenAt(n *Namespace, at netip.AddrPort, transparent bool) (int, error) {
	fd, err := s.bound(n, at, unix.SOCK_STREAM, transparent)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		discard(fd)
		return -1, fmt.Errorf("listen on %v: %w", at, err)
	}
	return fd, nil
}

// bound makes a socket with an address, non-blocking as all are. The namespace need not have the address yet: a pod's runtime may still be setting its devices up, and IPv6 may be switched on at any time.
func (s *sockets) bound(n *Namespace, at netip.AddrPort, kind int, transparent bool) (int, error) {
	fd, err := s.socket(n, domain(at.Addr()), kind)
	if err != nil {
		return -1, fmt.Errorf("socket for %v: %w", at, err)
	}
	err = errors.Join(
		os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)),
		os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)),
	)
	switch addr := at.Addr(); {
	case addr == netip.IPv6Unspecified():
		err = errors.Join(err, os.NewSyscallError("setsockopt IPV6_V6ONLY", unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0)))
	case !addr.IsUnspecified():
		err = errors.Join(err, os.NewSyscallError("setsockopt IP_FREEBIND", freeBind(fd, addr)))
	}
	if transparent {
		beTransparent(fd, at.Addr()) //nolint:errcheck // tried, and not needed
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, sockaddr(at)))
	}
	if err != nil {
		discard(fd)
		return -1, fmt.Errorf("bind %v: %w", at, err)
	}
	return fd, nil
}

// beTransparent lets a socket use addresses that are not this host's.
func beTransparent(fd int, addr netip.Addr) error {
	err := os.NewSyscallError("setsockopt IP_TRANSPARENT", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
	if addr.Is6() {
		err = os.NewSyscallError("setsockopt IPV6_TRANSPARENT", unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1))
	}
	return err
}

// dial connects to an address from inside the namespace. A valid source is used as our own address, so that the application sees who
// really called; if the kernel does not let us, the pod's own address is used and unspoofed says why. What is reserved is none of the ports of source that we choose.
func (s *sockets) dial(ctx context.Context, n *Namespace, to netip.AddrPort, source netip.Addr, reserved func(port uint16) bool) (c *net.TCPConn, unspoofed, err error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	var nc net.Conn
	if source = source.Unmap(); source.IsValid() && source != to.Addr() {
		if nc, err = s.dialAs(ctx, n, to, source, reserved); err != nil {
			if _, ok := errors.AsType[*unboundError](err); ok || errors.Is(err, errOtherFamily) {
				unspoofed = err
			}
		}
	}
	if nc == nil && (err == nil || unspoofed != nil) {
		var fd int
		if fd, err = s.stocked(n, domain(to.Addr())); err == nil {
			nc, err = connect(ctx, fd, to)
		}
	}
	if err != nil {
		return nil, unspoofed, fmt.Errorf("dial %v: %w", to, err)
	}
	tcp := nc.(*net.TCPConn)
	tune(tcp)
	return tcp, unspoofed, nil
}

// dialPacket opens a UDP socket that talks to one address only.
func (s *sockets) dialPacket(ctx context.Context, n *Namespace, to netip.AddrPort) (net.Conn, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	fd, err := s.socket(n, domain(to.Addr()), unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	nc, err := connect(ctx, fd, to)
	if err != nil {
		return nil, fmt.Errorf("dial UDP %v: %w", to, err)
	}
	return nc, nil
}

// discard closes a socket that came to nothing.
func discard(fd int) { unix.Close(fd) } // the failure before it is what counts

// shut closes what is done with; that it fails changes nothing.
func shut(c io.Closer) { c.Close() }

// freeBind allows binding to an address that no interface has.
func freeBind(fd int, addr netip.Addr) error {
	if addr.Is6() {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
}

// connect finishes what socket began; it owns fd. net.Dialer cannot be used, for it makes its sockets on any thread.
func connect(ctx context.Context, fd int, to netip.AddrPort) (net.Conn, error) {
	err := unix.Connect(fd, sockaddr(to))
	if errors.Is(err, unix.EINPROGRESS) {
		err = outcome(fd) // who listens on this host, as the application does, has answered already
	}
	file := os.NewFile(uintptr(fd), to.String())
	defer file.Close()
	if errors.Is(err, unix.EINPROGRESS) {
		if err := established(ctx, file); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(file)
}

// outcome says what became of a connect: EINPROGRESS as long as nothing has.
func outcome(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	if _, err = unix.Getpeername(fd); errors.Is(err, unix.ENOTCONN) {
		return unix.EINPROGRESS
	}
	return err
}

// established waits for the end of a connect in progress.
func established(ctx context.Context, file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })() //nolint:errcheck // a dead socket ends the wait, too
	var result error
	err = raw.Write(func(fd uintptr) bool {
		err := outcome(int(fd))
		if errors.Is(err, unix.EINPROGRESS) {
			return false
		}
		result = os.NewSyscallError("connect", err)
		return true
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, result)
}

// tune sets what every connection of ours has beside what package net sets (no delay for small writes): keep-alives.
func tune(c *net.TCPConn) {
	c.SetKeepAliveConfig(keepAlive) //nolint:errcheck // only ever fails on a dead connection, which shows at its first use
}

// originalDst is where a redirected connection was meant to go; its local address if it was not redirected.
func originalDst(c *net.TCPConn) netip.AddrPort {
	local := addrPort(c.LocalAddr())
	raw, err := c.SyscallConn()
	if err != nil {
		return local
	}
	level := unix.SOL_IP
	if local.Addr().Is6() {
		level = unix.SOL_IPV6
	}
	out := local
	raw.Control(func(fd uintptr) { //nolint:errcheck // a closed connection is found out by its user
		// The answer is a sockaddr of either family; this call's buffer fits both.
		info, err := unix.GetsockoptIPv6MTUInfo(int(fd), level, originalDestination)
		if err != nil {
			return
		}
		var port [2]byte
		binary.NativeEndian.PutUint16(port[:], info.Addr.Port)
		addr := netip.AddrFrom16(info.Addr.Addr)
		if level == unix.SOL_IP { // sockaddr_in has its address where sockaddr_in6 has the flow label
			var v4 [4]byte
			binary.NativeEndian.PutUint32(v4[:], info.Addr.Flowinfo)
			addr = netip.AddrFrom4(v4)
		}
		out = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(port[:]))
	})
	return out
}

// addrPort reads a TCP or UDP address; IPv4 in its own form.
func addrPort(a net.Addr) netip.AddrPort {
	var out netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		out = a.AddrPort()
	case *net.UDPAddr:
		out = a.AddrPort()
	}
	return netip.AddrPortFrom(out.Addr().Unmap().WithZone(""), out.Port())
}

func domain(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}
