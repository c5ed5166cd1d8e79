// SPDX-License-Identifier: Apache-2.0

package hbone

import "golang.org/x/net/http2"

// smallRead is up to how many bytes are read for somebody else, in bytes; for more its own goroutine is called, which costs about as much as to copy them.
const smallRead = 16 << 10

// wholeRead is up to how much of its frame a Read waits for when others wait behind it, in bytes: what we put into a frame ourselves.
const wholeRead = 64 << 10

// incoming is a DATA frame whose payload is coming, or another one that is skipped.
type incoming struct {
	open   bool
	stream *Stream // where it goes; nil: nowhere
	left   int     // payload bytes to come
	pad    int     // and padding after them
	end    bool    // END_STREAM
	free   bool    // its bytes are not in any window
}

// beginData judges a DATA frame and books its bytes.
func (c *Conn) beginData(fh http2.FrameHeader, have []byte) (more bool, err error) {
	in := &c.in
	if fh.StreamID == 0 {
		return false, protocol("DATA without a stream")
	}
	d := incoming{open: true, left: int(fh.Length), end: fh.Flags.Has(http2.FlagDataEndStream)}
	header := frameHeaderLen
	if fh.Flags.Has(http2.FlagDataPadded) {
		if d.left == 0 {
			return false, &breach{code: http2.ErrCodeFrameSize, reason: "padded DATA without a length", event: EventConnProtocol}
		}
		if len(have) == header {
			return false, nil
		}
		d.left, d.pad = d.left-1, int(have[header])
		header++
		if d.pad > d.left {
			return false, protocol("padding longer than its frame")
		}
		d.left -= d.pad
	}
	c.ping.signs.Add(1)
	in.r += header
	if in.bulk = d.left > len(in.buf); c.under != nil {
		c.under.ahead.data = in.bulk
	}
	if !c.inflow.take(int64(fh.Length)) {
		return false, &breach{code: http2.ErrCodeFlowControl, reason: "more DATA than the connection's window", event: EventConnProtocol}
	}
	if d.left == 0 && !d.end {
		if !in.control.spend(c.set.Control) {
			return false, calm(EventControlBudget, "too many empty DATA frames")
		}
	}
	in.control.earn(float64(d.left)/(16<<10), c.set.Control)
	if d.stream, err = c.receiver(fh); err != nil {
		return false, err
	}
	if d.end {
		if err := c.earlyEnd(d.stream); err != nil {
			return false, err
		}
	}
	if overhead := int(fh.Length) - d.left; overhead > 0 {
		c.giveBack(d.stream, overhead)
	}
	in.data = d
	return true, nil
}

// receiver finds the stream for a DATA frame and books its window. No stream and no error means that the bytes are to be thrown away.
func (c *Conn) receiver(fh http2.FrameHeader) (*Stream, error) {
	s := c.lookup(fh.StreamID)
	if s == nil {
		if c.isIdle(fh.StreamID) {
			return nil, protocol("DATA on a stream that was never opened")
		}
		if c.astray(int64(fh.Length)) {
			return nil, calm(EventControlBudget, "more DATA on streams that were reset than was on its way")
		}
		return nil, c.late(fh.StreamID, "DATA")
	}
	if s.ends.Load()&endRecv != 0 {
		return nil, c.resetPeer(fh.StreamID, http2.ErrCodeStreamClosed, "DATA after END_STREAM")
	}
	s.mu.Lock()
	ok, closed := s.inflow.take(int64(fh.Length)), s.closed
	s.mu.Unlock()
	if closed && fh.Length > 0 {
		s.dismiss()
		return nil, nil
	}
	if !ok {
		return nil, c.resetPeer(fh.StreamID, http2.ErrCodeFlowControl, "more DATA than the stream's window")
	}
	return s, nil
}

// strayFrame is what a DATA frame on a stream that was reset counts as, besides its payload, in bytes: to find out that it is one is work. What is expected of an honest
// peer covers a window full of frames that have as many bytes themselves.
const strayFrame = 64

// expectStrays allows for what may be on its way to a stream that was reset here: a full window, and an empty frame that ends it. wmu must be held.
func (c *Conn) expectStrays() {
	c.strays = min(c.strays+2*int64(c.set.StreamWindow)+strayFrame, maxWindow)
}

// astray books n bytes on a stream that is no more, and says whether that is more than can have been on its way when streams were reset here.
func (c *Conn) astray(n int64) bool {
	c.mu.Lock()
	over := c.err != nil // the end of the connection took its streams, and the peer does not know yet
	c.mu.Unlock()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.strays -= n + strayFrame
	return c.strays < 0 && !over
}

// late handles a frame for a stream that has ended: quietly if we reset it and the frame was on its way, else with STREAM_CLOSED.
func (c *Conn) late(id uint32, what string) error {
	c.wmu.Lock()
	known := c.forgotten.has(id)
	c.wmu.Unlock()
	c.mu.Lock()
	known = known || c.drain == drainSaid && !c.client && id > c.lastTaken
	known = known || c.err != nil // the end of the connection took its streams, and the peer does not know yet
	c.mu.Unlock()
	if known && what == "DATA" {
		return nil // what was in flight may be a window full, and it pays by its bytes
	}
	if !c.in.control.spend(c.set.Control) {
		return calm(EventControlBudget, "too many frames on closed streams")
	}
	if known {
		return nil
	}
	return c.resetPeer(id, http2.ErrCodeStreamClosed, what+" on a closed stream")
}

// advanceData takes what has come of the open DATA frame.
func (c *Conn) advanceData(have []byte) (more bool) {
	in := &c.in
	d := &in.data
	switch {
	case d.left+d.pad > 0 && len(have) == 0:
		in.want = d.left + d.pad
		return false
	case d.left > 0:
		n := min(len(have), d.left)
		in.r += n
		d.left -= n
		switch {
		case d.stream != nil:
			c.put(d.stream, have[:n])
		case !d.free:
			c.owe(c.grant(n, nil, 0))
		}
		return true
	case d.pad > 0:
		n := min(len(have), d.pad)
		in.r += n
		d.pad -= n
		return true
	}
	s, end := d.stream, d.end
	*d = incoming{}
	if s != nil && end {
		s.end()
	}
	return true
}

// owe notes that a frame of ours was queued.
func (c *Conn) owe(queued bool) {
	if queued {
		c.in.owes = true
	}
}

// put copies payload bytes to where the stream's reader finds them.
func (c *Conn) put(s *Stream, b []byte) {
	s.mu.Lock()
	if s == c.in.stream && s.buf.size == 0 {
		n := copy(s.want[s.landed:], b)
		s.landed += n
		b = b[n:]
	}
	if s.closed {
		s.mu.Unlock()
		c.owe(c.grant(len(b), nil, 0))
		s.dismiss()
		return
	}
	s.buf.write(b)
	c.roused(s)
	s.mu.Unlock()
}

// land reads payload bytes from the transport, once, to where the stream's reader finds them.
func (c *Conn) land() error {
	in := &c.in
	c.ping.signs.Add(1) // the payload of a large frame may take its time
	s, want := in.data.stream, in.data.left
	s.mu.Lock()
	if s == in.stream && s.buf.size == 0 && s.landed < len(s.want) {
		s.mu.Unlock()
		room := s.want[s.landed:]
		n, err := c.read(room[:min(len(room), want)])
		if n > 0 {
			err = nil // it comes again
		}
		s.landed += n
		in.data.left -= n
		in.back = true
		if in.along = n > 0 && s.landed < len(s.want) && (in.along || c.ahead()); !in.along {
			in.sated = n > 0 && c.enough(s)
		}
		return err
	}
	if s.closed {
		s.mu.Unlock()
		in.data.stream = nil // the rest is thrown away as it comes, END_STREAM included
		s.dismiss()
		return nil
	}
	if s.waiting && s != in.stream && s.buf.size == 0 && want > smallRead {
		c.seat.name(&s.w) // it reads the rest itself, straight to where it wants it
		in.parting = true
		s.mu.Unlock()
		return nil
	}
	room, epoch := s.buf.space(want)
	s.mu.Unlock()
	n, err := c.read(room)
	if n > 0 {
		err = nil
	}
	in.data.left -= n
	s.mu.Lock()
	kept := s.buf.fill(n, epoch)
	if kept && n > 0 {
		c.roused(s)
	}
	s.mu.Unlock()
	if !kept {
		c.owe(c.grant(n, nil, 0))
	}
	return err
}

// enough says whether the stream's reader leaves with the bytes of the open frame that it has. Where others wait their turn, the rest of the frame is taken along if it
// is here or comes at once: nobody gets anything before it.
func (c *Conn) enough(s *Stream) bool {
	d := &c.in.data
	return d.stream != s || d.left == 0 || d.left > wholeRead || s.landed == len(s.want) || !c.seat.staysFor()
}

// roused tells the stream's reader, if it waits, that there is something. The stream's mu must be held.
func (c *Conn) roused(s *Stream) {
	in := &c.in
	switch {
	case s == in.stream:
		in.sated, in.back = true, true
	case s.waiting:
		s.w.cond.Signal()
		in.woken++
		if in.stream == nil {
			in.sated, in.back = true, true // the guard and those who accept make room for who comes back for more
		}
	}
}

// giveBack credits window bytes that carried nothing: padding.
func (c *Conn) giveBack(s *Stream, n int) {
	inc := uint32(0)
	if s != nil {
		s.mu.Lock()
		inc = s.inflow.give(int64(n), c.set.StreamWindow)
		s.mu.Unlock()
	}
	c.owe(c.grant(n, s, inc))
}
