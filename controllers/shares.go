// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"

	"golang.org/x/time/rate"
)

// maxParties bounds the parties whose shares are kept, of about 100 bytes each.
const maxParties = 4096

// shares gives each of many parties a share of something, so that whoever takes too much of it uses up its own and not that of the others.
type shares[K comparable] struct {
	rate  rate.Limit // a second
	burst int        // at once

	mu    sync.Mutex
	limit map[K]*rate.Limiter
}

func newShares[K comparable](perSecond rate.Limit, atOnce int) *shares[K] {
	return &shares[K]{rate: perSecond, burst: atOnce, limit: map[K]*rate.Limiter{}}
}

// allow takes one off the party's share, if there is one left.
func (s *shares[K]) allow(party K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(party).Allow()
}

// left says whether something of the party's share is left, and takes nothing.
func (s *shares[K]) left(party K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.limit[party]
	return l == nil || l.Tokens() >= 1
}

// charge takes one off the party's share, left or not: what was taken beyond it has to come back first.
func (s *shares[K]) charge(party K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(party).Reserve()
}

// of needs mu.
func (s *shares[K]) of(party K) *rate.Limiter {
	l := s.limit[party]
	if l == nil {
		if len(s.limit) >= maxParties {
			s.forget()
		}
		l = rate.NewLimiter(s.rate, s.burst)
		s.limit[party] = l
	}
	return l
}

// forget makes room: whoever has its whole share again is as one who never took anything. If too few have, a quarter of the others goes, whoever that is,
// so that the next ones find room without looking at all of them.
func (s *shares[K]) forget() {
	for party, l := range s.limit {
		if l.Tokens() >= float64(s.burst) {
			delete(s.limit, party)
		}
	}
	for party := range s.limit {
		if len(s.limit) <= maxParties*3/4 {
			return
		}
		delete(s.limit, party)
	}
}
