// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Payloads of our PINGs. The peer gives them back.
var (
	pingAlive = [8]byte{'a', 'l', 'i', 'v', 'e'}
	pingDrain = [8]byte{'d', 'r', 'a', 'i', 'n'}
	pingProbe = [8]byte{'p', 'r', 'o', 'b', 'e'}
)

// keepalive notices a peer that went silent. Guarded by the connection's mu.
type keepalive struct {
	timer   *time.Timer
	waiting bool                    // a PING is out
	greeted bool                    // the peer's first frame came
	signs   atomic.Uint32           // of life so far, and round again: frames, and reads of DATA; needs no lock
	mark    uint32                  // signs when the timer was set
	asked   atomic.Pointer[inquiry] // by a probe that is out; nil: none is. Needs no lock
}

// inquiry is a probe: when it was sent, and how many signs of life there had been. Later ones go without a frame of their own as long as one is out.
type inquiry struct {
	at    time.Time
	signs uint32
}

func (k *keepalive) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

// startKeepalive sets the timer for the peer's first frame; from then on it serves the PINGs. mu must be held.
func (c *Conn) startKeepalive() {
	c.ping.waiting = true
	c.ping.timer = time.AfterFunc(c.set.PrefaceTimeout, c.tick)
}

// tick is the timer: time to ask, or time to give up.
func (c *Conn) tick() {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.ping.waiting && c.ping.signs.Load() == c.ping.mark || !c.ping.greeted {
		c.mu.Unlock()
		c.fail(&ConnError{Remote: true, Reason: reasonSilent, event: EventSilent}, true)
		return
	}
	// A peer whose frames keep coming is alive even if its answer is late behind much data.
	late := c.ping.waiting
	c.ping.waiting = true
	c.ping.mark = c.ping.signs.Load()
	c.ping.timer.Reset(c.set.PingTimeout)
	c.mu.Unlock()
	if late {
		return
	}
	c.wmu.Lock()
	c.encode(func(f *http2.Framer) error { return f.WritePing(false, pingAlive) })
	c.wmu.Unlock()
	c.push()
}

// alive is called when the peer's first frame or an answer to a PING came: the next PING is due after the interval. It says whether one of these was awaited.
func (c *Conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || !c.ping.waiting {
		return false
	}
	c.ping.waiting, c.ping.greeted = false, true
	if c.set.PingInterval < 0 {
		c.ping.timer.Stop()
		return true
	}
	c.ping.timer.Reset(c.set.PingInterval)
	return true
}

// Ask asks the peer for a sign of life out of turn, and does not wait for it: Silent says what came of it. A peer's dial may take long, its answer to a PING not.
func (c *Conn) Ask() {
	before, now := c.ping.asked.Load(), &inquiry{at: time.Now(), signs: c.ping.signs.Load()}
	if before != nil && before.signs == now.signs || !c.ping.asked.CompareAndSwap(before, now) || before != nil {
		return // one is enough for all who wait
	}
	c.wmu.Lock()
	c.encode(func(f *http2.Framer) error { return f.WritePing(false, pingProbe) })
	c.wmu.Unlock()
	c.push()
}

// watchIdle starts the idle timer of a server. Streams that come and go do not touch it: it looks when it fires. mu must be held.
func (c *Conn) watchIdle() {
	if c.client || c.set.IdleTimeout < 0 {
		return
	}
	c.idle = time.AfterFunc(c.set.IdleTimeout, c.onIdle)
}

func (c *Conn) stopIdle() {
	if c.idle != nil {
		c.idle.Stop()
	}
}

// onIdle is the idle timer.
func (c *Conn) onIdle() {
	c.mu.Lock()
	left := c.set.IdleTimeout
	if len(c.streams) == 0 {
		left -= time.Since(c.quiet)
	}
	over := c.err != nil
	if !over && left > 0 {
		c.idle.Reset(left)
	}
	c.mu.Unlock()
	if over || left > 0 {
		return
	}
	c.set.Observe(EventIdle)
	c.Drain()
}
