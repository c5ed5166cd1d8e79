// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// network is where the connections of a scene are.
type network interface {
	listen(context.Context) (net.Listener, error)
	dial(ctx context.Context, network, address string) (net.Conn, error)
	dialFrom(ctx context.Context, from netip.Addr, address string) (net.Conn, error)
}

// loopback is the system's.
type loopback struct{}

func (loopback) listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

func (loopback) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

func (loopback) dialFrom(ctx context.Context, from netip.Addr, address string) (net.Conn, error) {
	return (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}).DialContext(ctx, "tcp", address)
}

// inMemory runs a test where time passes only while all wait, with a network of that kind: how fast the machine is makes no difference to what is bounded by time.
func inMemory(t *testing.T, f func(*testing.T, network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		// Last of all, the library ends by itself what it keeps: its servers wait for half a second before they close a connection, and of its clients' in HTTP/2 one whose answer was just
		// read is not idle yet when idle ones are closed, but is later.
		t.Cleanup(func() { time.Sleep(2 * idleAtEndpoint) })
		f(t, &memoryNet{sockets: map[netip.AddrPort]*memorySocket{}})
	})
}

// memoryNet is a network in memory.
type memoryNet struct {
	mu      sync.Mutex
	ports   uint16
	sockets map[netip.AddrPort]*memorySocket
}

// localhost is who has an address in memory, unless it says otherwise.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// port gives one that nobody has. Hold mu.
func (n *memoryNet) port(of netip.Addr) netip.AddrPort {
	n.ports++
	return netip.AddrPortFrom(of, 1024+n.ports)
}

func (n *memoryNet) listen(context.Context) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &memorySocket{at: n.port(localhost), arrive: make(chan net.Conn), closed: make(chan struct{})}
	s.close = sync.OnceFunc(func() { close(s.closed) })
	n.sockets[s.at] = s
	return s, nil
}

func (n *memoryNet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	return n.dialFrom(ctx, localhost, address)
}

func (n *memoryNet) dialFrom(ctx context.Context, client netip.Addr, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	from, s := n.port(client), n.sockets[to]
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	if s == nil {
		return nil, refused
	}
	there, back := newDirection(), newDirection()
	select {
	case s.arrive <- &memoryConn{in: there, out: back, local: to, remote: from}:
		return &memoryConn{in: back, out: there, local: from, remote: to}, nil
	case <-s.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type memorySocket struct {
	at     netip.AddrPort
	arrive chan net.Conn
	closed chan struct{}
	close  func()
}

func (s *memorySocket) Accept() (net.Conn, error) {
	select {
	case c := <-s.arrive:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *memorySocket) Close() error { s.close(); return nil }

func (s *memorySocket) Addr() net.Addr { return net.TCPAddrFromAddrPort(s.at) }
