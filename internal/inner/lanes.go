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
	// laneIdle is how long one without streams is kept: its outer connection is one of those of which a gateway takes a number from each peer and address.
	laneIdle = time.Minute
	// laneRoom is how much of the room for sessions those in other lanes leave to pods that are not reached yet: one of so many parts.
	laneRoom = 4
)

// widen has a session be opened beside s, to the same pod and by another way, if a stream that comes now will have to share one otherwise: streams in one TCP connection all wait for each lost
// packet, and have what one connection carries over a long line. None waits for it: it is there for the streams to come. mu must be held.
func (p *Pool) widen(to *pod, s *session, r *Request, now time.Time) {
	t := s.set
	streams, _ := to.load()
	if s.Lanes == nil || streams == 0 || now.Before(to.narrow) || now.Before(to.until) || now.Before(t.hold) {
		return
	}
	if p.total >= maxSessions-maxSessions/laneRoom || t.sessions() >= maxOfKey-maxOfKey/laneRoom {
		return
	}
	if others := t.held() + t.lost(now); others > maxAvoid || others < t.ready {
		return // not all others can be named to the gateway: it would give one of these
	}
	lane := 1
	for to.has(lane) {
		lane++
	}
	if streams < lane || lane >= s.Lanes() {
		return
	}
	to.widening = append(to.widening, lane)
	t.widening++
	p.total++
	beside := &session{set: t, lane: lane, limit: maxStreams, capacity: r.Capacity, opened: make(chan struct{})}
	close(beside.opened)
	wish := Wish{Avoid: t.avoid(now, true, to), Lane: lane}
	dial := r.Dial
	p.wait.Go(func() { p.openLane(to, beside, wish, dial) })
}

// has says whether the pod is reached in a lane other than the first, or will be.
func (p *pod) has(lane int) bool {
	return slices.Contains(p.widening, lane) || slices.ContainsFunc(p.sessions, func(s *session) bool { return s.lane == lane })
}

// openLane opens a session for widen. One that reaches another pod is not kept: that one has its own.
func (p *Pool) openLane(to *pod, s *session, wish Wish, dial func(context.Context, Wish) (Session, error)) {
	ctx, cancel := context.WithTimeout(p.ctx, laneTime)
	made, err := dial(ctx, wish)
	cancel()
	p.mu.Lock()
	to.widening = slices.DeleteFunc(to.widening, func(lane int) bool { return lane == s.lane })
	s.set.widening--
	keep := err == nil && made.Pod == to.name && s.set.pods[to.name] == to && !p.drained
	if keep {
		s.Session = made
		p.keep(s.set, s)
	} else {
		p.total--
		to.narrow = p.now().Add(laneAgain)
	}
	p.mu.Unlock()
	if err == nil && !keep {
		_ = made.Conn.Close() // always nil
		made.ended()
	}
}

// patience is how long the session is kept without streams.
func (s *session) patience() time.Duration {
	if s.lane > 0 {
		return laneIdle
	}
	return idleAfter
}

// cutIfBroken cuts the lane of a session in which nothing is heard, if that is for its carrier and there are other lanes.
func (p *Pool) cutIfBroken(ctx context.Context, s *session) bool {
	p.mu.Lock()
	other := s.otherLane()
	p.mu.Unlock()
	return other && s.Carrier(ctx) != nil && p.cut(s)
}

// cut has nobody use the lane of a session any more, whose carrier is broken, if there are others. It says whether there are.
func (p *Pool) cut(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.otherLane() {
		return false
	}
	for _, pod := range s.set.pods {
		for _, same := range slices.Clone(pod.sessions) {
			if same.lane == s.lane {
				p.retire(same)
			}
		}
	}
	return true
}

// otherLane says whether its set has sessions in another lane. mu must be held.
func (s *session) otherLane() bool {
	if s.pod == nil {
		return false
	}
	for _, pod := range s.set.pods {
		if slices.ContainsFunc(pod.sessions, func(other *session) bool { return other.lane != s.lane }) {
			return true
		}
	}
	return false
}
