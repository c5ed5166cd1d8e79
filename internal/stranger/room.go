// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// ErrCrowded ends a connection for which there is no room, or that had to make room for another one.
var ErrCrowded = errors.New("too many connections of which nothing is known")

// Turns are given to those who have something to compute. They are had in the order in which they are asked for.
type Turns chan struct{}

// NewTurns makes so many.
func NewTurns(n int) Turns { return make(Turns, n) }

// Room bounds connections that are waited for.
type Room struct {
	most, mostPerAddress int

	mu     sync.Mutex // hold for all below, and for places of Conns
	silent list.List  // of *Conn: those that are waited for, who was silent for longest in front
	hosts  map[netip.Addr]*host
}

// host is an address that connections come from.
type host struct {
	all    int       // connections in the room, silent or not
	silent list.List // as that of the Room
}

// NewRoom makes a Room in which at most so many connections are waited for, and mostPerAddress are from one address, whether they are waited for or not. Those beyond a bound end
// the one among them that was silent for longest; if none of an address is silent, it gets no more.
func NewRoom(most, mostPerAddress int) *Room {
	return &Room{most: most, mostPerAddress: mostPerAddress, hosts: map[netip.Addr]*host{}}
}

// Silent is how many connections are waited for now.
func (r *Room) Silent() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.silent.Len()
}

// Enter lets a connection in, which stays the caller's, or fails with ErrCrowded. Leave is called in the end.
func (r *Room) Enter(nc net.Conn, turns Turns) (*Conn, error) {
	c := &Conn{Conn: nc, room: r, from: addressOf(nc.RemoteAddr()), turns: turns}
	var out *Conn
	r.mu.Lock()
	h := r.hosts[c.from]
	if h == nil {
		h = &host{}
		r.hosts[c.from] = h
	}
	if h.all >= r.mostPerAddress {
		if out = first(&h.silent); out == nil {
			r.mu.Unlock()
			return nil, ErrCrowded
		}
		out.crowdOut()
	}
	h.all++
	c.host = h
	r.hosts[c.from] = h
	r.mu.Unlock()
	out.end()
	return c, nil
}

func first(l *list.List) *Conn {
	if front := l.Front(); front != nil {
		return front.Value.(*Conn)
	}
	return nil
}

func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// Conn is a connection in a Room. Its Read waits for the peer in silence, without a turn.
type Conn struct {
	net.Conn
	room  *Room
	from  netip.Addr
	turns Turns

	// For the goroutine that does the handshake:
	working context.Context // once it has asked for a turn: bounds the wait for the next one
	holds   bool            // it has one

	// Hold room.mu:
	host      *host         // nil: it is in the room no more
	inRoom    *list.Element // while it is waited for
	inAddress *list.Element
}

// Leave ends the connection's time in the room; it does not close it.
func (c *Conn) Leave() {
	c.giveTurn()
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	c.leave()
}

// leave is Leave with room.mu held.
func (c *Conn) leave() {
	c.speaks()
	if c.host == nil {
		return
	}
	if c.host.all--; c.host.all == 0 {
		delete(c.room.hosts, c.from)
	}
	c.host = nil
}

// crowdOut takes the connection out of the room. room.mu is held, and end comes after that.
func (c *Conn) crowdOut() { c.leave() }

// end has whoever waits for the connection fail.
func (c *Conn) end() {
	if c != nil {
		c.Conn.Close()
	}
}

// isSilent has the connection waited for, or says that it has to go.
func (c *Conn) isSilent() error {
	r := c.room
	r.mu.Lock()
	if c.host == nil {
		r.mu.Unlock()
		return ErrCrowded
	}
	var out *Conn
	if r.silent.Len() >= r.most {
		if out = first(&r.silent); out != nil {
			out.crowdOut()
		}
	}
	c.inRoom, c.inAddress = r.silent.PushBack(c), c.host.silent.PushBack(c)
	r.mu.Unlock()
	out.end()
	return nil
}

// speaks ends what isSilent began. room.mu is held.
func (c *Conn) speaks() {
	if c.inRoom != nil {
		c.room.silent.Remove(c.inRoom)
		c.host.silent.Remove(c.inAddress)
		c.inRoom, c.inAddress = nil, nil
	}
}

// waitFor has the peer waited for by f. It fails with ErrCrowded if the connection had to go meanwhile.
func (c *Conn) waitFor(f func() error) error {
	if err := c.isSilent(); err != nil {
		return err
	}
	err := f()
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	if c.host == nil {
		return ErrCrowded
	}
	c.speaks()
	return err
}

// Turn waits for a turn. From here on it is given back whenever the peer is waited for, and had again after that, until Leave.
func (c *Conn) Turn(ctx context.Context) error {
	select {
	case c.turns <- struct{}{}:
		c.holds, c.working = true, ctx
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Conn) giveTurn() {
	if c.holds {
		<-c.turns
		c.holds = false
	}
}

// Read reads what the peer sends.
func (c *Conn) Read(p []byte) (n int, err error) {
	c.giveTurn()
	if err := c.waitFor(func() error { n, err = c.Conn.Read(p); return err }); err != nil {
		return n, err
	}
	if c.working != nil {
		err = c.Turn(c.working)
	}
	return n, err
}
