// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	// maxTries bounds how many pods one Open tries; after that the service does not do well there.
	maxTries = 3
	// podPatience is how long a pod may take for one try while there are others, as a gateway has it for each of those that it dials: for a new session, which has half of the time that is left
	// at most, and then for a stream. It is longer than it takes to find a session silent, so that who lives and does not answer is told from who is gone.
	podPatience = 2 * time.Second
	// maxRaces bounds how often an Open may find that others took what it was given: the last place in a session, or the one who opened it.
	maxRaces = 64
)

// errRace says that what was given was gone by the time that it was used.
var errRace = errors.New("inner: lost a race")

// Open opens a stream. It tries another pod, up to maxTries of them, if one could not be reached, refused with a status that others may not give, fell silent, or took too long: until a
// 200 no byte of the stream is under way. Errors are those of hbone.Conn.Open and of Request.Dial.
func (p *Pool) Open(ctx context.Context, key Key, r Request) (*Stream, error) {
	var tried []string
	m := growing
	last := fmt.Errorf("inner: %w", hbone.ErrFull)
	for tries, races := 0, 0; tries < maxTries && races < maxRaces; {
		at, err := p.take(key, &r, tried, m)
		if err != nil {
			return nil, err
		}
		if at.verdict == nothing {
			break
		}
		stream, f := p.try(ctx, key, &r, at, tries == maxTries-1)
		if f == nil {
			return stream, nil
		}
		if errors.Is(f.err, errRace) {
			races++
			continue
		}
		last = f.err
		if !f.again || ctx.Err() != nil {
			break
		}
		if f.lane {
			races++
			continue
		}
		tries++
		if m = steady; f.closed {
			m = reusing
		}
		if f.pod != "" {
			tried = append(tried, f.pod)
		}
	}
	return nil, last
}

// patienceFor is how long a pod may take for a new session if there are others; 0: as long as there is time. That has the last one: a busy machine is not a dead one.
func patienceFor(ctx context.Context, last bool) time.Duration {
	if last {
		return 0
	}
	d := podPatience
	if deadline, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(deadline)/2)
	}
	return max(d, time.Millisecond)
}

// failure is one try that came to nothing.
type failure struct {
	err   error
	again bool   // another one may do better
	pod   string // that should not be tried again for this stream, if there is one
	// lane says that it was one of several ways to the gateway that failed, and none of the pods.
	lane bool
	// closed says that the gateway opens no sessions. Those that there are may do.
	closed bool
}

// try opens the stream in the place that it was given. The last try has all the time that there is.
func (p *Pool) try(ctx context.Context, key Key, r *Request, at place, last bool) (*Stream, *failure) {
	s, err := p.enter(ctx, key, r, at, patienceFor(ctx, last))
	if err != nil {
		if broken, ok := errors.AsType[*PodError](err); ok {
			return nil, &failure{err: err, again: true, pod: broken.Pod}
		}
		refused, _ := errors.AsType[*hbone.RefusedError](err)
		return nil, &failure{err: err, again: at.verdict != alone && !final(refused), closed: true}
	}
	asking, cancel := ctx, context.CancelFunc(func() {})
	if !last && s.Pod != "" && (at.others || s.Ready > 1) {
		asking, cancel = context.WithTimeout(ctx, podPatience)
	}
	stream, answer, err := s.Conn.Open(asking, r.Authority, r.Header)
	cancel()
	if err != nil {
		// Who has not given a sign of life until its time was over is silent, even if nobody had the time to say so.
		late := ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
		silent := errors.Is(err, hbone.ErrSilent) || late && !errors.Is(err, hbone.ErrUnanswered)
		lanes, broken := map[int]error(nil), error(nil)
		if silent && s.Carrier != nil {
			if lanes = p.silentLanes(ctx, s); lanes != nil {
				broken = lanes[s.lane]
			}
			if broken != nil && p.cut(s, lanes) {
				p.give(s)
				return nil, &failure{err: broken, again: true, lane: true} // the pod may well be there, by another way
			}
		}
		f := p.blame(ctx, s, err, silent, late, at.mine)
		if silent && s.Carrier != nil {
			if lanes == nil {
				broken = s.Carrier(ctx)
			}
			if broken != nil {
				return nil, &failure{err: broken} // the other sessions will do no better
			}
		}
		return nil, f
	}
	p.worked(s)
	return &Stream{Stream: stream, Answer: answer, Peer: s.Peer, Pod: s.Pod, Leaving: s.leaving, Done: sync.OnceFunc(func() { p.leave(s) })}, nil
}

// enter gives the session of a place once it is open: it opens it, or waits for who does.
func (p *Pool) enter(ctx context.Context, key Key, r *Request, at place, patience time.Duration) (*session, error) {
	switch {
	case at.verdict == alone:
		return p.single(ctx, key, r, at.avoid, patience)
	case at.mine:
		return p.begin(ctx, r, at, patience)
	}
	s := at.session
	select {
	case <-s.opened:
	case <-ctx.Done():
		p.give(s)
		return nil, s.late(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.err != nil && !s.given:
		return nil, s.err
	case s.err != nil, s.pod == nil: // who opened it gave up, or keeps it
		return nil, errRace
	case at.waits && s.blind:
		s.streams--
		return nil, errRace
	case s.retired || !s.fits(r, p.now()):
		p.retire(s)
		s.streams--
		return nil, errRace
	}
	return s, nil
}

// begin opens a session that others may already wait for.
func (p *Pool) begin(ctx context.Context, r *Request, at place, patience time.Duration) (*session, error) {
	s := at.session
	made, err := r.Dial(context.WithValue(ctx, openingKey{}, s), Wish{Avoid: at.avoid, Patience: patience})
	if refused := p.begun(s, made, err, ctx.Err() != nil); refused != nil {
		if err == nil {
			_ = made.Conn.Close() // always nil
			made.ended()
		}
		return nil, refused
	}
	return s, nil
}

// begun notes what became of an opening. given says that who opened it gave up. The error is why the session is not to be used.
func (p *Pool) begun(s *session, made Session, err error, given bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(s.opened)
	t, now := s.set, p.now()
	for i, other := range t.opening {
		if other == s {
			t.opening = append(t.opening[:i:i], t.opening[i+1:]...)
			break
		}
	}
	if err == nil && p.drained {
		err = hbone.ErrDraining
	}
	if err != nil {
		p.total--
		s.err, s.given = err, given
		if !given {
			if broken, ok := errors.AsType[*PodError](err); ok {
				t.told(broken.Ready, s.capacity, now)
				if p := t.pods[broken.Pod]; p != nil && now.Before(p.until) && s.seeks && len(t.opening) == 0 {
					t.allUntil = now.Add(allFor) // it was asked for another one, as in reached
				}
				t.failed(broken.Pod, now)
			} else {
				t.hold = now.Add(firstOut)
			}
		}
		return err
	}
	s.Session = made
	if t.plain = made.Pod == ""; t.plain {
		p.total-- // it is this stream's own, and the others have to open theirs
		return nil
	}
	p.keep(t, s)
	return nil
}

// keep files an open session, and watches it until it has ended. mu must be held.
func (p *Pool) keep(t *set, s *session) {
	now := p.now()
	s.quiet, s.limit = now, maxStreams
	p.all[s] = struct{}{}
	t.reached(s, now)
	for _, name := range s.Gone {
		if gone := t.pods[name]; gone != nil && gone != s.pod {
			for _, other := range append([]*session(nil), gone.sessions...) {
				p.retire(other)
			}
			delete(t.pods, name)
		}
	}
	p.wait.Go(func() {
		<-s.Conn.Done()
		p.mu.Lock()
		p.retire(s)
		delete(p.all, s)
		p.mu.Unlock()
		s.ended()
	})
}

// single makes a session that serves one stream only.
func (p *Pool) single(ctx context.Context, key Key, r *Request, avoid string, patience time.Duration) (*session, error) {
	made, err := r.Dial(ctx, Wish{Avoid: avoid, Patience: patience})
	if err != nil {
		return nil, err
	}
	s := &session{Session: made, streams: 1, limit: maxStreams, capacity: r.Capacity, opened: make(chan struct{})}
	close(s.opened)
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.sets[key]; t != nil && t.plain && made.Pod != "" && !p.drained {
		// The gateway has learned to name pods.
		t.plain, s.set = false, t
		p.total++
		p.keep(t, s)
	}
	return s, nil
}

// worked notes that a session's pod has taken a stream.
func (p *Pool) worked(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.pod != nil {
		s.pod.worked()
	}
}

// blame says what a stream's failure in a session means, and takes the stream off the session: whether nothing at all is heard in it, whether the stream was given up to try
// another pod, and whether the session was opened for it.
func (p *Pool) blame(ctx context.Context, s *session, err error, silent, late, mine bool) *failure {
	f := &failure{err: err}
	refused, answered := errors.AsType[*hbone.RefusedError](err)
	var lost *hbone.ConnError
	var unprocessed *hbone.UnprocessedError
	var reset *hbone.StreamError
	full := errors.Is(err, hbone.ErrFull)
	p.mu.Lock()
	if s.pod == nil { // its only stream
		p.mu.Unlock()
		p.wait.Go(func() { end(s.Session) }) // nobody who has another try waits for a goodbye
		if f.again = s.Pod != "" && !final(refused) && ctx.Err() == nil; f.again {
			f.pod = s.Pod
		}
		return f
	}
	switch {
	case answered:
		if f.again = !final(refused); f.again {
			s.set.failed(s.Pod, p.now())
			f.pod = s.Pod
		}
	case full:
		s.limit = max(s.streams-1, 1)
		f.err = errRace
	case ctx.Err() != nil:
		// Nobody waits any more. If the session is dead, its PINGs will say so.
	case late && !silent:
		// Its proxy lives, and what runs goes on.
		s.set.failed(s.Pod, p.now())
		f.again, f.pod = true, s.Pod
	case silent, errors.As(err, &lost), errors.As(err, &unprocessed), errors.As(err, &reset) && reset.Remote:
		f.again = true
		p.retire(s)
		if mine || silent {
			s.set.failed(s.Pod, p.now())
			f.pod = s.Pod
		}
	}
	p.mu.Unlock()
	p.give(s)
	return f
}

// final says that the last hop has judged who we are or what we asked: others would say the same.
func final(r *hbone.RefusedError) bool {
	return r != nil && (r.Status == http.StatusUnauthorized || r.Status == http.StatusBadRequest)
}

// leave is for a stream that is over.
func (p *Pool) leave(s *session) {
	p.mu.Lock()
	kept := s.pod != nil
	p.mu.Unlock()
	if kept {
		p.give(s)
		return
	}
	end(s.Session)
}

// end says goodbye in a session without streams, and waits until it has ended.
func end(s Session) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = s.Conn.Shutdown(ctx) // nothing is left that could be lost
	s.ended()
}

func (s *Session) ended() {
	if s.Ended != nil {
		s.Ended()
	}
}
