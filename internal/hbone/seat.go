// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"sync"
	"time"
)

// seat says who reads from the transport. One does at a time, and it is whoever waits for something anyway: a reader of a stream or an Open that holds
// the seat reads frames in its own goroutine until it has what it waits for, and serves the others on the way. A stream that is alone on its connection
// so costs no hand-over between goroutines at all, and its bytes go straight into the buffer of its Read.
//
// Invariant: while the connection runs, the seat is held, or its timer runs. A seat that was left by somebody who is expected back soon stays empty for a
// while (see absence); then whoever waits in Accept is called to it, or a goroutine of the connection's own, the guard.
type seat struct {
	mu      sync.Mutex
	holder  *waiter   // who reads, or was called to; nil: nobody
	arrived bool      // the holder knows, or nobody may come first
	given   time.Time // when Accept gave a request
	aside   bool      // Accept leaves the seat to the reader of that request's stream
	heir    *waiter   // who gets the seat when its holder leaves, because the next bytes are for it
	// queue are those who wait for frames and would read, the longest first; standby those who wait in Accept and are called only if nobody else is there.
	queue, standby waiterList
	blocked        int       // writers who wait for the peer and cannot read themselves
	kicked         bool      // the transport's read deadline is in the past, to get the holder out
	until          time.Time // the read deadline otherwise
	over           bool      // nothing more is read
	rounds, seen   uint32    // how often the seat was taken; the same when the timer was set
	armed          bool      // the timer runs
	partial        bool      // the holder has bytes, and stays for the rest of their frame until the timer fires
	timer          *time.Timer
}

// absence is how long the seat may be empty while somebody is expected back, at least; at most it is twice that, or busyAbsence and absence after a time in which it was taken. Within it a request, an answer and a small file
// are handled, so that the usual stream comes back in time; and what it may delay (a PING, a new stream while all others are busy) does not mind a millisecond.
//
// Who came back more than oftenBack times meanwhile is looked after every busyAbsence only: the timer wakes a thread each time, and more often it would meet one in a
// hundred round trips of a stream that is fast, and be its 99th percentile. So is who came back and sits there now: to stop the timer would have the next one who leaves
// start it, which wakes a thread, too (3 % of the processor time of a proxy that ends a bulk stream).
const (
	absence     = time.Millisecond
	oftenBack   = 16
	busyAbsence = 4 * absence
)

// waiter is somebody who waits for frames. Its lock is the one under which it decides to wait.
type waiter struct {
	cond    *sync.Cond // on which it waits; nil for the guard
	standby bool       // it waits in Accept
	stream  *Stream    // whose reader it is, if it is one
	// Guarded by the seat's mu:
	in         *waiterList
	prev, next *waiter
}

// wake has the waiter look again. Its lock must not be held.
func (w *waiter) wake() {
	w.cond.L.Lock()
	w.cond.Broadcast() // all who accept share one
	w.cond.L.Unlock()
}

// waiterList is a list of waiters, the oldest first. Its zero value is empty.
type waiterList struct{ first, last *waiter }

func (l *waiterList) push(w *waiter) {
	w.in, w.prev, w.next = l, l.last, nil
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
}

func (l *waiterList) remove(w *waiter) {
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.in, w.prev, w.next = nil, nil, nil
}

// take gives the waiter the seat if it is empty or the waiter was called to it; false: the waiter is enlisted, and will be woken when it is called. Who comes
// back before somebody who was called meanwhile has arrived goes first if the next bytes are its own.
// The waiter's lock must be held, and not be let go before the waiter waits.
func (c *Conn) take(w *waiter) bool {
	s := &c.seat
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == w {
		s.arrived = true
		return true
	}
	if !s.over && (s.holder == nil || !s.arrived && w.stream != nil && c.in.data.left > 0 && c.in.data.stream == w.stream) {
		c.unkick()
		s.sit(w)
		s.arrived = true
		return true
	}
	if w.in == nil {
		if w.standby {
			s.standby.push(w)
		} else {
			s.queue.push(w)
		}
	}
	if s.holder != nil && s.holder.standby && !w.standby && time.Since(s.given) < soon {
		s.aside = true
	}
	return false
}

// standBy is take for one who accepts and leaves the seat to others: it does not sit down before it is called.
func (s *seat) standBy(w *waiter) (called bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == w {
		s.arrived = true
		return true
	}
	if w.in == nil {
		s.standby.push(w)
	}
	if s.holder == nil && !s.over {
		s.arm(absence)
	}
	return false
}

// soon is within which time of a request its stream is read by those who have nothing to do before. Where that is so, Accept leaves the seat to them: if it sat there
// it would have to wake them for their first bytes. Whoever dials first takes longer, and then Accept rather waits for the next request.
const soon = 100 * time.Microsecond

// gave notes that Accept gives a request.
func (s *seat) gave() {
	s.mu.Lock()
	s.given = time.Now()
	s.mu.Unlock()
}

// stepsAside says whether Accept leaves the seat to the reader of the stream that it gave last.
func (s *seat) stepsAside() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aside
}

// sit gives the seat to the waiter, who has yet to arrive. mu must be held.
func (s *seat) sit(w *waiter) {
	s.holder, s.arrived, s.partial = w, false, false
	s.rounds++
	if w.in != nil {
		w.in.remove(w)
	}
}

// kick gets the waiter out of the transport's Read if it is there, so that it looks at what it waits for again.
func (c *Conn) kick(w *waiter) {
	s := &c.seat
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == w {
		c.kickHolder()
	}
}

// kickHolder is kick for who holds the seat's mu.
func (c *Conn) kickHolder() {
	s := &c.seat
	if !s.kicked {
		s.kicked = true
		// A transport without deadlines keeps the waiter until the next frame; there is nothing better.
		_ = c.nc.SetReadDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// isKicked says whether a timeout of the transport's Read was a kick.
func (s *seat) isKicked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kicked
}

// limitReads bounds from now on how long the transport is read.
func (c *Conn) limitReads(until time.Time) error {
	s := &c.seat
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = until
	if s.kicked {
		return nil
	}
	return c.nc.SetReadDeadline(until)
}

// name says who gets the seat next. The waiter's lock must be held while it waits, and the seat be held by the caller.
func (s *seat) name(heir *waiter) {
	s.mu.Lock()
	s.heir = heir
	s.mu.Unlock()
}

// staysFor says whether the holder, who has a part of a frame, stays for the rest: only if others would read, and not for long.
func (s *seat) staysFor() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.first == nil {
		return false
	}
	s.partial = true
	s.arm(absence)
	return true
}

// unkick takes back a kick that has done its work. The seat's mu must be held.
func (c *Conn) unkick() {
	if c.seat.kicked {
		c.seat.kicked = false
		_ = c.nc.SetReadDeadline(c.seat.until) // see kick
	}
}

// leave is for a waiter that no longer waits: it leaves the list, or the seat if it has that, and then somebody else is called. back says that the
// waiter is likely to come back at once. The waiter's lock must not be held.
func (c *Conn) leave(w *waiter, back bool) {
	s := &c.seat
	s.mu.Lock()
	if w.in != nil {
		w.in.remove(w)
	}
	if s.heir == w {
		s.heir = nil
	}
	if s.holder != w {
		s.mu.Unlock()
		return
	}
	s.holder = nil
	c.unkick()
	if s.over {
		s.mu.Unlock()
		return
	}
	next, heir := s.queue.first, s.heir
	if heir != nil {
		next, s.heir = heir, nil
	}
	if next != nil {
		s.sit(next)
		s.arrived = heir != nil
		s.mu.Unlock()
		next.wake()
		return
	}
	if s.blocked > 0 || !back && s.standby.first != nil {
		c.callGuard()
		return
	}
	s.arm(absence)
	s.mu.Unlock()
}

// arm sets the timer if it does not run. mu must be held.
func (s *seat) arm(d time.Duration) {
	if s.armed {
		return
	}
	s.armed = true
	s.seen = s.rounds
	s.timer.Reset(d)
}

// onAbsence is the timer.
func (c *Conn) onAbsence() {
	s := &c.seat
	s.mu.Lock()
	s.armed = false
	switch {
	case s.over || s.holder != nil && !s.partial && s.rounds == s.seen:
		s.mu.Unlock()
	case s.holder != nil && s.rounds == s.seen:
		c.kickHolder() // the rest of its frame takes long
		s.mu.Unlock()
	case s.rounds-s.seen > oftenBack, s.holder != nil && !s.partial:
		s.arm(busyAbsence)
		s.mu.Unlock()
	case s.rounds != s.seen: // somebody was here meanwhile, so the seat is not empty for long
		s.arm(absence)
		s.mu.Unlock()
	default:
		s.aside = false // who was expected did not come
		c.callGuard()
	}
}

// callAcceptor has who waits in Accept fill the seat, if it is empty.
func (c *Conn) callAcceptor() {
	s := &c.seat
	s.mu.Lock()
	if s.over || s.holder != nil || s.standby.first == nil {
		s.mu.Unlock()
		return
	}
	c.callGuard()
}

// attend sees to it that somebody reads now.
func (c *Conn) attend() {
	s := &c.seat
	s.mu.Lock()
	if s.over || s.holder != nil {
		s.mu.Unlock()
		return
	}
	c.callGuard()
}

// blockedWriter counts a writer that begins (1) or ends (-1) to wait for the peer: while there are some, the seat is not left empty.
func (c *Conn) blockedWriter(n int) {
	s := &c.seat
	s.mu.Lock()
	s.blocked += n
	if n < 0 || s.over || s.holder != nil {
		s.mu.Unlock()
		return
	}
	c.callGuard()
}

// callGuard fills the empty seat: with one who waits, or with the guard. mu must be held and is let go.
func (c *Conn) callGuard() {
	s := &c.seat
	next := s.queue.first
	if next == nil {
		next = s.standby.first
	}
	if next == nil {
		s.sit(&c.guard)
		s.mu.Unlock()
		go c.keepGuard() // ends with the transport at the latest, see Conn.running
		return
	}
	s.sit(next)
	s.mu.Unlock()
	next.wake()
}

// keepGuard is the guard: it holds the seat and reads until there is somebody to leave it to.
func (c *Conn) keepGuard() {
	s := &c.seat
	s.mu.Lock()
	called := s.holder == &c.guard && !s.arrived // else somebody else came first
	s.arrived = s.arrived || called
	s.mu.Unlock()
	if called {
		c.lead(&c.guard, nil)
	}
}
