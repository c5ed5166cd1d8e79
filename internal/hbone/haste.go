// SPDX-License-Identifier: Apache-2.0

package hbone

import "time"

// haste predicts whether those who write the first bytes of a stream end their direction right behind them, as who asks or answers with one message does. Then the
// bytes stay in the queue until the stream's next call, so that they and END_STREAM are one record, one system call and one thing to wake the peer for. If the stream
// does not call, the timer sends them. Guarded by the connection's wmu.
type haste struct {
	seen  int // how many streams in a row were hasty, up to surelyHasty
	timer *time.Timer
	armed bool      // the timer runs
	holds bool      // something is held back
	since time.Time // when the oldest of that was
}

const (
	// hastyWithin is how soon behind its first bytes a hasty stream ends its direction, and how long these are held back at most, but for once again that: the timer
	// is set once for many. A round trip on one machine takes a quarter of it.
	hastyWithin = 100 * time.Microsecond
	// surelyHasty is how many streams in a row have to be hasty before bytes are held back. Whoever is not delays its own bytes, so that this happens to one stream
	// in as many at the worst.
	surelyHasty = 8
)

// likely says whether first bytes may be held back.
func (h *haste) likely() bool { return h.seen == surelyHasty }

// wrote notes that a stream writes. Its first bytes begin the time, its second ones show that it was not hasty.
func (h *haste) wrote(s *Stream, first bool) {
	switch {
	case first:
		s.began = time.Now()
	case !s.began.IsZero():
		s.began, h.seen = time.Time{}, 0
	}
}

// ended notes that a stream ended its direction.
func (h *haste) ended(s *Stream) {
	switch {
	case s.began.IsZero():
	case time.Since(s.began) <= hastyWithin:
		h.seen = min(h.seen+1, surelyHasty)
	default:
		h.seen = 0
	}
}

// mayHold says whether what was just queued may be held back: whoever calls next can send it. wmu must be held.
func (c *Conn) mayHold() bool {
	return c.haste.likely() && c.direct() && !c.sending && !c.crowd.Load() && !c.under.held()
}

// holdBack leaves what the stream has queued to its next call. wmu must be held.
func (c *Conn) holdBack(s *Stream) {
	h := &c.haste
	s.held.Store(true)
	if !h.holds {
		h.holds, h.since = true, s.began
	}
	if h.armed {
		return
	}
	h.armed = true
	if h.timer == nil {
		h.timer = time.AfterFunc(hastyWithin, c.onHeldBack)
	} else {
		h.timer.Reset(hastyWithin)
	}
}

// onHeldBack is the timer.
func (c *Conn) onHeldBack() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	h := &c.haste
	h.armed = false
	switch {
	case !h.holds || c.sending || c.closing:
	case time.Since(h.since) < hastyWithin: // what the timer was set for is gone
		h.armed = true
		h.timer.Reset(hastyWithin)
	default:
		h.seen = 0
		if c.direct() {
			c.transmit(nil)
		}
		c.pass()
	}
}

// letGo sends what the stream has held back, before it waits.
func (s *Stream) letGo() {
	if s.held.Load() && s.held.Swap(false) {
		s.conn.push()
	}
}
