// SPDX-License-Identifier: Apache-2.0

package hbone

// This file decides which stream may send next. Those that have to wait for the connection, for its window, for the turn to write or for space in the queue, wait in
// one line and get one frame each when it is their turn.

// room says how many of want bytes the stream may send as one frame now, and whether straight from where they are. 0 means that it has to wait, and has taken its place
// in the line if it waits for the connection and not for its own window. wmu must be held.
func (c *Conn) room(s *Stream, want int) (n int, straight bool) {
	if s.outflow <= 0 {
		c.leaveLine(s) // its window is its own affair
		return 0, false
	}
	if !s.granted && (len(c.waiting) > 0 || c.grants) {
		c.enterLine(s)
		return 0, false
	}
	size := int(min(int64(min(want, c.writeFrame)), s.outflow))
	if c.outflow <= 0 {
		c.stall(s)
		return 0, false
	}
	// A frame that has to be cut to the space left should still be worth its header.
	space := c.set.WriteQueue - c.pending() - frameHeaderLen
	fits := space > 0 && space >= min(size, c.set.WriteQueue/8)
	// The few bytes of each in a crowd go together, and so do those that are likely to be a stream's last.
	queue := fits && size <= smallWrite && (c.crowd.Load() || !s.wrote && c.haste.likely())
	switch {
	case c.direct() && !c.sending && !queue:
		c.turnTaken(s)
		return int(min(int64(size), c.outflow)), true
	case fits && (size <= smallWrite || !c.direct()):
		c.turnTaken(s)
		return int(min(int64(min(size, space)), c.outflow)), false
	}
	c.stall(s)
	return 0, false
}

func (c *Conn) turnTaken(s *Stream) {
	if s.granted {
		s.granted = false
		c.grants = false
	}
}

// stall puts the stream (back) into the line. wmu must be held.
func (c *Conn) stall(s *Stream) {
	c.turnTaken(s)
	c.enterLine(s)
	c.startFlush() // what it was to take along
}

// enterLine puts the stream at the end of those that wait for the connection. wmu must be held.
func (c *Conn) enterLine(s *Stream) {
	if !s.queued {
		s.queued = true
		c.waiting = append(c.waiting, s)
	}
}

// leaveLine takes the stream out of the line and passes its turn on if it had one. wmu must be held.
func (c *Conn) leaveLine(s *Stream) {
	if s.queued {
		s.queued = false
		for i, w := range c.waiting {
			if w == s {
				c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
				break
			}
		}
	}
	if s.granted {
		c.turnTaken(s)
		c.pass()
	}
}

// next gives the turn to the stream that waits longest, if there is something to give and nobody has it. wmu must be held.
func (c *Conn) next() {
	if c.grants || len(c.waiting) == 0 || c.outflow <= 0 || c.closing {
		return
	}
	if c.direct() {
		if c.sending {
			return
		}
	} else if c.pending()+frameHeaderLen >= c.set.WriteQueue {
		return
	}
	s := c.waiting[0]
	copy(c.waiting, c.waiting[1:])
	c.waiting[len(c.waiting)-1] = nil
	c.waiting = c.waiting[:len(c.waiting)-1]
	s.queued, s.granted, c.grants = false, true, true
	s.wcond.Broadcast()
}
