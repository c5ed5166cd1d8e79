// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"net/netip"
	"sync"
)

// sockets are the near ends of what the gateway has sent to endpoints by itself. What comes from one of them has come back: a route leads to the gateway, and each turn would make another socket.
type sockets struct {
	mu   sync.Mutex
	ends map[netip.AddrPort]struct{}
}

// add notes one, until gone is called.
func (s *sockets) add(end netip.AddrPort) (gone func()) {
	end = netip.AddrPortFrom(end.Addr().Unmap(), end.Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = map[netip.AddrPort]struct{}{}
	}
	s.ends[end] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ends, end)
	}
}

// endOf is where a connection ends; not valid if it has no address and port.
func endOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort()
	case *net.UDPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// has says whether something came from one of them.
func (s *sockets) has(from netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !from.IsValid() {
		return false // nobody knows where it is from
	}
	_, ok := s.ends[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())]
	return ok
}
