// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"slices"
	"time"
)

const (
	// laneTime is how long a session in another lane may take to be opened: nobody waits for it.
	laneTime = 10 * time.Second
	// laneAgain is after how long it is tried again, if none came of it or it reached another pod.
	laneAgain = 30 * time.Second
)

// widen has a session be opened beside s, to the same pod and by another way, if every session that the pod has carries a stream by now: streams that share one TCP connection share each of
// its losses, and what one connection carries over a long line. Nobody waits for it; it is there for the streams to come, and stays for as long as any that is idle. mu must be held.
func (p *Pool) widen(to *pod, s *session, r *Request, now time.Time) {
	t := s.set
	if len(to.sessions) >= s.Lanes || to.widening || now.Before(to.narrow) || now.Before(to.until) || p.total >= maxSessions || t.sessions() >= maxOfKey {
		return
	}
	lane := 1
	for slices.ContainsFunc(to.sessions, func(other *session) bool { return other.lane == lane }) {
		lane++
	}
	if lane >= s.Lanes {
		return // the way that is missing is the first, which is opened when somebody needs it
	}
	to.widening = true
	t.widening++
	p.total++
	beside := &session{set: t, lane: lane, limit: maxStreams, capacity: r.Capacity, opened: make(chan struct{})}
	close(beside.opened)
	wish := Wish{Avoid: t.avoid(now, true, to), Lane: lane}
	dial := r.Dial
	p.wait.Go(func() { p.openLane(to, beside, wish, dial) })
}

// openLane opens a session for widen.
func (p *Pool) openLane(to *pod, s *session, wish Wish, dial func(context.Context, Wish) (Session, error)) {
	ctx, cancel := context.WithTimeout(p.ctx, laneTime)
	made, err := dial(ctx, wish)
	cancel()
	p.mu.Lock()
	to.widening = false
	s.set.widening--
	if err != nil || made.Pod != to.name {
		to.narrow = p.now().Add(laneAgain)
	}
	keep := err == nil && made.Pod != "" && !p.drained
	if keep {
		s.Session = made
		p.keep(s.set, s)
	} else {
		p.total--
	}
	p.mu.Unlock()
	if err == nil && !keep {
		_ = made.Conn.Close() // always nil
		made.ended()
	}
}
