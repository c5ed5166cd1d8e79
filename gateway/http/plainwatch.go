// SPDX-License-Identifier: Apache-2.0

package http

import "time"

// watchAfter is how long a request runs before its client is listened to, who may leave. Most are answered before, and so cost nothing for it; a client that leaves is noticed after twice that at most.
const watchAfter = 100 * time.Millisecond

// clientWatch notices that the client of a request that runs has left. What it hears besides is kept for later. It belongs to a plainConn, under its lock.
type clientWatch struct {
	timer    *time.Timer // nil: none was needed yet
	armed    bool
	requests uint64        // that have begun
	seen     uint64        // requests, when the timer was armed
	running  bool          // a request does
	over     chan struct{} // closed by who listens, at its end; nil: nobody does
}

// arm has the timer look in a while.
func (c *plainConn) arm() {
	w := &c.watch
	w.armed, w.seen = true, w.requests
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, c.look)
	} else {
		w.timer.Reset(watchAfter)
	}
}

// attend begins the watch for a request. The timer stays as it is, so that small requests do not have to touch it.
func (c *plainConn) attend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.requests++
	c.watch.running = true
	if !c.watch.armed {
		c.arm()
	}
}

// look begins to listen if the same request still runs.
func (c *plainConn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.watch
	w.armed = false
	switch {
	case !w.running:
	case w.requests != w.seen:
		c.arm()
	case c.end < len(c.buffer): // else it has asked for so much more that it is there
		w.over = make(chan struct{})
		c.readUntil = time.Time{}
		_ = c.nc.SetReadDeadline(c.readUntil)
		go c.listen(w.over)
	}
}

// listen waits for the client to leave, or to say more.
func (c *plainConn) listen(over chan struct{}) {
	defer close(over)
	n, err := c.nc.Read(c.buffer[c.end:])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end += n
	if err != nil && c.watch.running {
		c.cancel()
	}
}

// unattend ends the watch, before anything else is read.
func (c *plainConn) unattend() {
	c.mu.Lock()
	w := &c.watch
	w.running = false
	over := w.over
	w.over = nil
	if over != nil {
		_ = c.nc.SetReadDeadline(past)
		c.readUntil = time.Time{} // whoever reads next sets another
	}
	c.mu.Unlock()
	if over != nil {
		<-over
	}
}

// unwatch is for the end of the connection.
func (c *plainConn) unwatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watch.timer != nil {
		c.watch.timer.Stop()
	}
}
