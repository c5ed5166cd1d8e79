// SPDX-License-Identifier: Apache-2.0

package peephole

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// crowd is a listener of whose connections no more than a number are open: one too many ends the oldest one of the address that has most of them.
type crowd struct {
	net.Listener
	most int

	mu   sync.Mutex
	open []*guest // in the order in which they came
}

// guest is one of the connections.
type guest struct {
	net.Conn
	crowd *crowd
	from  netip.Addr
}

// Accept gives the next connection.
func (c *crowd) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: nc, crowd: c, from: addressOf(nc)}
	if out := c.enter(g); out != nil {
		_ = out.Close() // whoever serves it finds out
	}
	return g, nil
}

// enter lets one more in, and gives the one that has to go for it.
func (c *crowd) enter(g *guest) (out *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, g)
	if len(c.open) <= c.most {
		return nil
	}
	of := map[netip.Addr]int{}
	for _, one := range c.open {
		of[one.from]++
	}
	for _, one := range c.open {
		if out == nil || of[one.from] > of[out.from] {
			out = one
		}
	}
	return out
}

// Close ends the connection, and leaves its place to another one.
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	g.crowd.open = slices.DeleteFunc(g.crowd.open, func(one *guest) bool { return one == g })
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}

func addressOf(nc net.Conn) netip.Addr {
	if tcp, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
