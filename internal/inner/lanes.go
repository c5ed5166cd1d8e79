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
	// laneAgain is after how long it is tried again, if none came of it, it reached another pod, or the way was too short for another one.
	laneAgain = 30 * time.Second
	// laneIdle is how long one without streams is kept: its outer connection is one of those of which a gateway takes a number from each peer and address.
	laneIdle = time.Minute
	// maxLane is how many lanes there are at most, whatever a session says.
	maxLane = 16
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
	lane, lanes := maxLane, 0
	for n := range maxLane {
		if to.has(n) {
			lanes++
		} else {
			lane = min(lane, n)
		}
	}
	if streams < lanes || lane == maxLane {
		return
	}
	if lane >= s.Lanes() {
		to.narrow = now.Add(laneAgain) // to ask again for each stream is not worth it
		return
	}
	to.widening = append(to.widening, lane)
	t.widening++
	p.total++
	beside := &session{set: t, lane: lane, beside: true, limit: maxStreams, capacity: r.Capacity, opened: make(chan struct{})}
	close(beside.opened)
	wish := Wish{Avoid: t.avoid(now, true, to), Lane: lane, Beside: true}
	dial := r.Dial
	p.wait.Go(func() { p.openLane(to, beside, wish, dial) })
}

// has says whether the pod is reached in a lane, or will be.
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

// silentLanes asks of each lane of the session's set, all at once, what is wrong with its carrier; nil for those of which nothing is. It is nil if there is one lane only.
func (p *Pool) silentLanes(ctx context.Context, s *session) map[int]error {
	p.mu.Lock()
	ask := map[int]func(context.Context) error{s.lane: s.Carrier}
	if s.pod != nil {
		for _, pod := range s.set.pods {
			for _, other := range pod.sessions {
				if _, there := ask[other.lane]; !there {
					ask[other.lane] = other.Carrier
				}
			}
		}
	}
	p.mu.Unlock()
	if len(ask) == 1 {
		return nil
	}
	type said struct {
		lane int
		err  error
	}
	answers := make(chan said, len(ask))
	for lane, carrier := range ask {
		go func() {
			var err error
			if carrier != nil {
				err = carrier(ctx)
			}
			answers <- said{lane, err}
		}()
	}
	out := make(map[int]error, len(ask))
	for range ask {
		a := <-answers
		out[a.lane] = a.err
	}
	return out
}

// cut has nobody use the lanes any more whose carriers are broken, if there are others: it says whether there are. If there are none it is the gateway that is silent.
func (p *Pool) cut(s *session, lanes map[int]error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := false
	for _, pod := range s.set.pods {
		alive = alive || slices.ContainsFunc(pod.sessions, func(other *session) bool { err, asked := lanes[other.lane]; return asked && err == nil })
	}
	if !alive || s.retired { // somebody else has cut it, and there may be a new one in the lane
		return alive
	}
	for lane, err := range lanes {
		if err != nil {
			p.cutting(lane, err)
		}
	}
	for _, pod := range s.set.pods {
		for _, broken := range slices.Clone(pod.sessions) {
			if lanes[broken.lane] != nil {
				p.retire(broken)
			}
		}
	}
	return true
}
