// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// errRevoked ends a request that was let in and would not be any more.
var errRevoked = errors.New("the policies of now do not let the client in")

// standing are the requests that were let in and run, upgraded ones too: a list, as each request joins and leaves it.
type standing struct {
	generation atomic.Uint64 // of what they are judged by
	rounds     atomic.Uint64 // asked for and not over: whoever makes it more than none starts the goroutine
	mu         sync.Mutex
	first      *trip
}

// stand is where a trip is among those that stand. It belongs to standing.
type stand struct {
	end            context.CancelCauseFunc
	next, previous *trip
}

func (s *standing) add(t *trip, end context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.stand = stand{end: end, next: s.first}
	if s.first != nil {
		s.first.stand.previous = t
	}
	s.first = t
}

func (s *standing) remove(t *trip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, previous := t.stand.next, t.stand.previous
	if next != nil {
		next.stand.previous = previous
	}
	if previous != nil {
		previous.stand.next = next
	} else {
		s.first = next
	}
	t.stand.next, t.stand.previous = nil, nil
}

// all are the requests of the moment.
func (s *standing) all() []*trip {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*trip
	for t := s.first; t != nil; t = t.stand.next {
		out = append(out, t)
	}
	return out
}

// Rejudge has the requests ended that Admit or AdmitTo would not let in any more. It is to be called after what they decide by has changed, and does not wait: one goroutine looks at
// all of them, and once more if it is called meanwhile, by what holds when it comes to each. However often it is called, a request is judged at most twice after the last time.
func (s *Server) Rejudge() {
	s.standing.generation.Add(1)
	if s.standing.rounds.Add(1) == 1 {
		s.judges.Go(s.rejudge)
	}
}

// rejudge goes round until nobody has asked for it since it began.
func (s *Server) rejudge() {
	for asked := s.standing.rounds.Load(); ; {
		for _, t := range s.standing.all() {
			if s.judge(t) != nil {
				t.stand.end(errRevoked)
			}
		}
		if s.standing.rounds.CompareAndSwap(asked, 0) {
			return
		}
		asked = s.standing.rounds.Load()
	}
}

// judge says why the client of a request may not ask its listener or its backend, if that is known yet; nil: it may.
func (s *Server) judge(t *trip) error {
	if err := s.admit(t); err != nil {
		return err
	}
	return s.admitTo(t, t.backend, &t.sent)
}
