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

// standing are the requests that were let in and run, upgraded ones too.
type standing struct {
	generation atomic.Uint64 // of what they are judged by
	mu         sync.Mutex
	open       map[*trip]context.CancelCauseFunc
}

func (s *standing) add(t *trip, end context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*trip]context.CancelCauseFunc{}
	}
	s.open[t] = end
}

func (s *standing) remove(t *trip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, t)
}

// all are the requests of the moment.
func (s *standing) all() map[*trip]context.CancelCauseFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[*trip]context.CancelCauseFunc, len(s.open))
	for t, end := range s.open {
		out[t] = end
	}
	return out
}

// Rejudge ends the requests that Admit or AdmitTo would not let in any more. It is to be called after what they decide by has changed.
func (s *Server) Rejudge() {
	s.standing.generation.Add(1)
	for t, end := range s.standing.all() {
		if s.judge(t) != nil {
			end(errRevoked)
		}
	}
}

// judge says why the client of a request may not ask its listener or its backend, if that is known yet; nil: it may.
func (s *Server) judge(t *trip) error {
	if err := s.admit(t); err != nil {
		return err
	}
	return s.admitTo(t, t.backend, &t.sent)
}
