// SPDX-License-Identifier: Apache-2.0

package hbone

import "golang.org/x/net/http2"

// readData lands a DATA frame in the buffer of its stream.
func (c *Conn) readData(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return protocol("DATA without a stream")
	}
	if !c.inflow.take(int64(fh.Length)) {
		return &breach{code: http2.ErrCodeFlowControl, reason: "more DATA than the connection's window", event: EventConnProtocol}
	}
	left, padding := int(fh.Length), 0
	if fh.Flags.Has(http2.FlagDataPadded) {
		if left == 0 {
			return &breach{code: http2.ErrCodeFrameSize, reason: "padded DATA without a length", event: EventConnProtocol}
		}
		b, err := c.br.ReadByte()
		if err != nil {
			return err
		}
		left, padding = left-1, int(b)
		if padding > left {
			return protocol("padding longer than its frame")
		}
		left -= padding
	}
	end := fh.Flags.Has(http2.FlagDataEndStream)
	if left == 0 && !end {
		if !c.control.spend(c.set.Control) {
			return calm(EventControlBudget, "too many empty DATA frames")
		}
	}
	c.control.earn(float64(left)/(16<<10), c.set.Control)

	s, err := c.receiver(fh)
	if err != nil {
		return err
	}
	if overhead := int(fh.Length) - left; overhead > 0 {
		c.giveBack(s, overhead)
	}
	if s == nil {
		err = c.discard(left)
	} else {
		err = c.land(s, left)
	}
	if err != nil {
		return err
	}
	if padding > 0 {
		if err := c.skip(padding); err != nil {
			return err
		}
	}
	if s != nil && end {
		s.end()
	}
	return nil
}

// receiver finds the stream for a DATA frame and books its window. No stream and no error means that the bytes are to be thrown away.
func (c *Conn) receiver(fh http2.FrameHeader) (*Stream, error) {
	s := c.lookup(fh.StreamID)
	if s == nil {
		if c.isIdle(fh.StreamID) {
			return nil, protocol("DATA on a stream that was never opened")
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
	if !c.control.spend(c.set.Control) {
		return calm(EventControlBudget, "too many frames on closed streams")
	}
	if known {
		return nil
	}
	return c.resetPeer(id, http2.ErrCodeStreamClosed, what+" on a closed stream")
}

// land reads n payload bytes into the stream's buffer, waking its reader as they come.
func (c *Conn) land(s *Stream, n int) error {
	for n > 0 {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return c.discard(n)
		}
		room, epoch := s.buf.space(n)
		s.mu.Unlock()
		k, err := c.br.Read(room)
		s.mu.Lock()
		kept := s.buf.fill(k, epoch)
		if kept && k > 0 {
			s.rcond.Signal()
		}
		s.mu.Unlock()
		if !kept {
			c.grant(k, 0, 0)
		}
		n -= k
		if err != nil {
			return err
		}
	}
	return nil
}

// giveBack credits window bytes that carried nothing: padding.
func (c *Conn) giveBack(s *Stream, n int) {
	inc, id := uint32(0), uint32(0)
	if s != nil {
		s.mu.Lock()
		inc, id = s.inflow.give(int64(n), c.set.StreamWindow), s.id
		s.mu.Unlock()
	}
	c.grant(n, id, inc)
}

// discard reads n payload bytes that nobody wants and credits them to the connection.
func (c *Conn) discard(n int) error {
	err := c.skip(n)
	c.grant(n, 0, 0)
	return err
}

func (c *Conn) skip(n int) error {
	_, err := c.br.Discard(n)
	return err
}
