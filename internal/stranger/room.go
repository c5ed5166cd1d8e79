// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrCrowded ends a connection for which there is no room, or that had to make room for another one.
var ErrCrowded = errors.New("too many connections of which nothing is known")

// Turns are given to those who have something to compute. They are had in the order in which they are asked for.
type Turns chan struct{}

// NewTurns makes so many.
func NewTurns(n int) Turns { return make(Turns, n) }

// stalled is how long a peer is silent in the middle of its handshake before it gives way to another one of its address: a second is a round trip to anywhere.
const stalled = time.Second

// stage is how far a connection has come.
type stage int

const (
	unheard stage = iota // no whole ClientHello is there, or our side is not prepared
	begun                // it has asked for its first turn
	stages
)

// Room bounds connections by stage, those of one stage whatever there are of the other.
type Room struct {
	most       int         // of each stage
	mostOfHost [stages]int // so many of them of one host

	mu     sync.Mutex // hold for all below, and for places of Conns
	crowds [stages]crowd
	hosts  map[source]*host
}

// crowd are connections of one stage.
type crowd struct {
	all    int       // silent or not
	silent list.List // of *Conn: those that are waited for, who was silent for longest in front
}

// source is where connections come from, and whose turns they need: a flood for one pod leaves the address its places at others.
type source struct {
	addr  netip.Addr
	turns Turns
}

// host are the connections of one source.
type host struct{ crowds [stages]crowd }

// NewRoom makes a Room. Of those that have not asked for a turn yet there are at most so many, and mostPerAddress of one address for the same turns: one too many ends the one among
// them that was silent for longest. Of those that have asked there are again at most so many, and half of that of one address for the same turns. Among these, who is silent gives
// way to others of its address only when it stalls, so that a herd behind one address loses nobody for whom we have computed. If none can give way, the new one has to.
func NewRoom(most, mostPerAddress int) *Room {
	return &Room{most: most, mostOfHost: [stages]int{mostPerAddress, max(1, most/2)}, hosts: map[source]*host{}}
}

// Silent is how many connections are waited for now.
func (r *Room) Silent() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.crowds[unheard].silent.Len() + r.crowds[begun].silent.Len()
}

// Enter lets a connection in, which stays the caller's, or fails with ErrCrowded. Leave is called in the end.
func (r *Room) Enter(nc net.Conn, turns Turns) (*Conn, error) {
	c := &Conn{Conn: nc, room: r, from: source{addressOf(nc.RemoteAddr()), turns}}
	r.mu.Lock()
	h := r.hosts[c.from]
	if h == nil {
		h = &host{}
	}
	out, err := r.place(h, unheard)
	if err == nil {
		c.host = h
		r.hosts[c.from] = h
	}
	r.mu.Unlock()
	out.end()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// place counts one more connection of a stage. The one that has to go for it was taken out of the room, and end comes after mu is let go.
func (r *Room) place(h *host, s stage) (out *Conn, err error) {
	if h.crowds[s].all >= r.mostOfHost[s] {
		out = h.crowds[s].oldest()
		if out == nil || s == begun && time.Since(out.since) < stalled {
			return nil, ErrCrowded
		}
	} else if r.crowds[s].all >= r.most {
		if out = r.crowds[s].oldest(); out == nil {
			return nil, ErrCrowded
		}
	}
	if out != nil {
		out.crowdOut()
	}
	h.crowds[s].all++
	r.crowds[s].all++
	return out, nil
}

func (w *crowd) oldest() *Conn {
	if front := w.silent.Front(); front != nil {
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
	room *Room
	from source

	// For the goroutine that does the handshake:
	working context.Context // once it has asked for a turn: bounds the wait for the next one
	holds   bool            // it has one

	// Hold room.mu:
	host      *host // nil: it is in the room no more
	stage     stage
	since     time.Time     // when the wait for it began
	stop      func()        // ends a wait that is not for the peer
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
	if c.host == nil {
		return
	}
	c.speaks()
	c.uncount()
	if c.host.crowds[unheard].all+c.host.crowds[begun].all == 0 {
		delete(c.room.hosts, c.from)
	}
	c.host = nil
}

// uncount gives back what place counted.
func (c *Conn) uncount() {
	c.host.crowds[c.stage].all--
	c.room.crowds[c.stage].all--
}

// crowdOut takes the connection out of the room. room.mu is held, and end comes after that.
func (c *Conn) crowdOut() {
	if c.stop != nil {
		c.stop()
	}
	c.leave()
}

// end has whoever waits for the connection's peer fail.
func (c *Conn) end() {
	if c != nil {
		c.Conn.Close()
	}
}

// begin has the handshake begun, if there is room for one more.
func (c *Conn) begin() error {
	r := c.room
	r.mu.Lock()
	if c.host == nil {
		r.mu.Unlock()
		return ErrCrowded
	}
	out, err := r.place(c.host, begun)
	if err == nil {
		c.uncount()
		c.stage = begun
	}
	r.mu.Unlock()
	out.end()
	return err
}

// isSilent has the connection waited for, or says that it had to go. stop, if set, ends the wait if it has to go meanwhile.
func (c *Conn) isSilent(stop func()) error {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.host == nil {
		return ErrCrowded
	}
	c.since, c.stop = time.Now(), stop
	c.inRoom, c.inAddress = r.crowds[c.stage].silent.PushBack(c), c.host.crowds[c.stage].silent.PushBack(c)
	return nil
}

// speaks ends what isSilent began. room.mu is held.
func (c *Conn) speaks() {
	if c.inRoom != nil {
		c.room.crowds[c.stage].silent.Remove(c.inRoom)
		c.host.crowds[c.stage].silent.Remove(c.inAddress)
		c.inRoom, c.inAddress, c.stop = nil, nil, nil
	}
}

// waitFor has the connection waited for by f. It fails with ErrCrowded if it had to go meanwhile.
func (c *Conn) waitFor(stop func(), f func() error) error {
	if err := c.isSilent(stop); err != nil {
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

// Prepare has f wait for what our side lacks. Meanwhile the connection gives way as if its peer were silent: then the context of f ends, and Prepare fails with ErrCrowded.
func (c *Conn) Prepare(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return c.waitFor(func() { cancel(ErrCrowded) }, func() error { return f(ctx) })
}

// Turn waits for a turn, or fails with ErrCrowded if too many have asked for their first one. From here on it is given back whenever the peer is waited for, and had again after that,
// until Leave.
func (c *Conn) Turn(ctx context.Context) error {
	if c.working == nil {
		if err := c.begin(); err != nil {
			return err
		}
		c.working = ctx
	}
	select {
	case c.from.turns <- struct{}{}:
		c.holds = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Conn) giveTurn() {
	if c.holds {
		<-c.from.turns
		c.holds = false
	}
}

// Read reads what the peer sends.
func (c *Conn) Read(p []byte) (n int, err error) {
	c.giveTurn()
	if err := c.waitFor(nil, func() error { n, err = c.Conn.Read(p); return err }); err != nil {
		return n, err
	}
	if c.working != nil {
		err = c.Turn(c.working)
	}
	return n, err
}
