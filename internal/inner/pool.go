// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// maxPods bounds how many pods of a key are reached at once. With more of them than that, each source reaches some; which, the gateway evens out.
	maxPods = 64
	// maxAvoid bounds how many pods a gateway is asked to avoid: as many as it heeds.
	maxAvoid = 64
	// maxStreams bounds the streams in one session, as for tunnels that are not nested.
	maxStreams = 100
	// maxOfKey bounds the sessions of one key: 256 of 100 streams are more than the connections that a pod may have.
	maxOfKey = 256
	// maxSessions bounds the sessions of a Pool. One that is idle costs this process about 50 KiB.
	maxSessions = 1024
	// maxKeys bounds of how many keys anything is remembered.
	maxKeys = 4096
	// idleAfter is how long a session without streams is kept, as for tunnels that are not nested.
	idleAfter = 5 * time.Minute
	// sweepEvery is how often sessions are looked at that nobody asks for.
	sweepEvery = 30 * time.Second
	// farewell is how long a session may take to say goodbye when its last stream has ended.
	farewell = 5 * time.Second
)

// Request is what is asked of a Pool.
type Request struct {
	// Authority and Header are those of the inner CONNECT.
	Authority string
	Header    hbone.Header
	// Last are the identities that the last hop may have, and Next those of the gateway.
	Last, Next []mesh.Identity
	// Expected says whether what was proved counts as one of those that are wanted; nil: if it is one of them.
	Expected func(want []mesh.Identity, proved mesh.Identity) bool
	// Capacity is what discovery says of how many pods there are. Only that it has changed is believed, and leads to one question.
	Capacity uint32
	// Dial makes a session. It fails with a *PodError if it was a pod that failed. It may still be called after Open has returned, for a session in another lane.
	Dial func(ctx context.Context, wish Wish) (Session, error)
}

// Wish is what a session is to be like.
type Wish struct {
	// Avoid are the pods that it should rather not reach, the value of x-isthmus-avoid.
	Avoid string
	// Patience is how long the pod may take for its part if the gateway has others, so that time is left for one of these; 0: as long as there is.
	Patience time.Duration
	// Lane is which way to the gateway it takes, of those that share nothing, from 0 on. Others than 0 are asked for where Session.Lanes allows it.
	Lane int
	// Beside says that nobody waits for the session: the stream that led to it has one, and may be long over.
	Beside bool
}

// Stream is a stream in a session.
type Stream struct {
	*hbone.Stream
	// Answer are the headers of the last hop's 200.
	Answer hbone.Header
	// Peer is what the last hop proved.
	Peer mesh.Identity
	// Pod is the gateway's name for the pod that was reached; empty if it gave none.
	Pod string
	// Leaving says that the session opens no more streams: what it is in drains, or has ended.
	Leaving func() bool
	// Done must be called once, when the stream is over.
	Done func()
}

// Pool keeps the inner sessions of one source pod.
type Pool struct {
	now     func() time.Time
	cutting func(lane int, why error)

	mu      sync.Mutex
	sets    map[Key]*set
	all     map[*session]struct{} // that have not ended, retired ones included
	total   int                   // sessions, those that are being opened included
	ctx     context.Context       // of sessions that nobody waits for; ends when the pool drains
	cancel  context.CancelFunc
	drained bool
	sweeper *time.Timer // runs while there are sets
	wait    sync.WaitGroup
}

// NewPool makes a Pool. cutting hears of each lane that is not used any more, because nothing is heard in its carrier, although there are others; it must not call the Pool.
func NewPool(cutting func(lane int, why error)) *Pool {
	p := &Pool{now: time.Now, cutting: cutting, sets: map[Key]*set{}, all: map[*session]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// set finds or makes the set of a key; nil if there are too many. mu must be held.
func (p *Pool) set(key Key, now time.Time) *set {
	t := p.sets[key]
	if t == nil {
		if len(p.sets) >= maxKeys {
			return nil
		}
		t = &set{key: key, pods: map[string]*pod{}}
		p.sets[key] = t
		if p.sweeper == nil {
			p.sweeper = time.AfterFunc(sweepEvery, p.sweep)
		}
	}
	t.used = now
	return t
}

// place is what a stream was given.
type place struct {
	session *session
	verdict verdict
	avoid   string
	mine    bool // the session is to be opened by whoever got this
	waits   bool // somebody else is opening it
	others  bool // there are other pods, as far as is known
}

// mood is how far a stream may go to find a place.
type mood uint8

const (
	// growing: it may open a session to a pod that is not reached yet.
	growing mood = iota
	// steady: it may open one if there is no place in those that there are.
	steady
	// reusing: it may not open any.
	reusing
)

// take finds a place for a stream, and counts it there.
func (p *Pool) take(key Key, r *Request, tried []string, m mood) (place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drained {
		return place{}, hbone.ErrDraining
	}
	now := p.now()
	t := p.set(key, now)
	if t == nil {
		return place{verdict: alone}, nil
	}
	for {
		options, who, held, excluded := t.state(tried, now, m != reusing)
		if t.plain && held == 0 {
			return place{verdict: alone}, nil
		}
		c := t.coverage(r.Capacity, now)
		reached, want := held+len(t.opening), c.want(held, len(t.opening), maxPods)
		// Those that cannot be reached are not missed until their time is over, or each stream would look for them again.
		missed := c.news || reached+t.lost(now) < want
		i, v := choose(options, situation{
			held: reached, want: want,
			grow:    m == growing && (held == 0 || !now.Before(t.hold) && missed),
			mayOpen: m != reusing && p.total < maxSessions && t.sessions() < maxOfKey, excluded: excluded,
		})
		others := held > 1 || t.ready > 1
		switch {
		case v == open:
			s := &session{set: t, streams: 1, limit: maxStreams, capacity: r.Capacity, seeks: reached < want && missed, opened: make(chan struct{})}
			if s.blind = held == 0 && t.ready == 0; s.blind {
				s.limit = math.MaxInt // they only wait here
			}
			t.opening = append(t.opening, s)
			p.total++
			return place{session: s, verdict: use, avoid: t.avoid(now, s.seeks, nil), mine: true, others: others}, nil
		case v == nothing, v == alone && m == reusing:
			return place{verdict: nothing}, nil
		case v == alone:
			return place{verdict: alone, avoid: t.avoid(now, false, nil)}, nil
		}
		t.turns++
		if s, opening := who[i].(*session); opening {
			s.streams++
			return place{session: s, verdict: use, waits: true, others: others}, nil
		}
		best := who[i].(*pod)
		s := best.lightest()
		if !s.fits(r, now) {
			p.retire(s)
			continue
		}
		best.turn = t.turns
		if best.fails > 0 && !now.Before(best.until) {
			best.until = now.Add(firstOut) // one finds out whether it is back, the others do without it
		}
		p.widen(best, s, r, now)
		s.streams++
		best.late.add(1, now)
		return place{session: s, verdict: use, others: others}, nil
	}
}

// sessions is how many there are, those that are being opened included.
func (t *set) sessions() int {
	n := len(t.opening) + t.widening
	for _, p := range t.pods {
		n += len(p.sessions)
	}
	return n
}

// give counts a stream off its session.
func (p *Pool) give(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.streams--
	if s.streams > 0 || s.pod == nil {
		return
	}
	s.quiet = p.now()
	if !s.retired && s.surplus() {
		p.retire(s)
	}
}

// retire takes a session out of its set. Its streams go on, and it ends with the last one. mu must be held.
func (p *Pool) retire(s *session) {
	if s.retired || s.pod == nil {
		return
	}
	s.retired = true
	for i, other := range s.pod.sessions {
		if other == s {
			s.pod.sessions = append(s.pod.sessions[:i:i], s.pod.sessions[i+1:]...)
			break
		}
	}
	if len(s.pod.sessions) == 0 {
		s.set.allUntil = time.Time{} // maybe another one has come in its place
	}
	p.total--
	s.Conn.Drain()
}

// sweep retires what was idle for long, and forgets what is not worth remembering.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for key, t := range p.sets {
		for _, pod := range t.pods {
			for _, s := range append([]*session(nil), pod.sessions...) {
				if s.Conn.Draining() || s.Outdated != nil && s.Outdated() || s.streams == 0 && (!now.Before(s.quiet.Add(s.patience())) || !now.Before(s.Until) || s.surplus()) {
					p.retire(s)
				}
				s.limit = maxStreams // it may have been full of streams whose ends were still on their way
			}
		}
		t.forget(now)
		if t.sessions() == 0 && len(t.pods) == 0 && !now.Before(t.used.Add(idleAfter)) {
			delete(p.sets, key)
		}
	}
	if p.drained || len(p.sets) == 0 {
		p.sweeper = nil
		return
	}
	p.sweeper.Reset(sweepEvery)
}

// Drain ends the pool without hurting streams: Open fails, and each session ends with its last stream.
func (p *Pool) Drain() {
	for _, s := range p.shut() {
		s.Conn.Drain()
	}
}

// Close ends the pool and all of its sessions now, streams included, and waits until they have ended. No Open may be under way, and sessions that serve a single stream
// are not the Pool's.
func (p *Pool) Close() error {
	for _, s := range p.shut() {
		p.wait.Go(func() { _ = s.Conn.Close() }) // always nil
	}
	p.wait.Wait()
	return nil
}

// shut has nothing be opened any more, and gives the sessions that there are.
func (p *Pool) shut() (out []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drained = true
	p.cancel()
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	for s := range p.all {
		out = append(out, s)
	}
	return out
}

// Counts says how many sessions are kept, and how many streams they carry.
func (p *Pool) Counts() (sessions, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.sets {
		for _, pod := range t.pods {
			for _, s := range pod.sessions {
				sessions++
				streams += s.streams
			}
		}
	}
	return sessions, streams
}
