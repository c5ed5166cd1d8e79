// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// stream is a CONNECT from its arrival to the end of what it carries.
type stream struct {
	peer mesh.Identity  // proved by the outer connection
	from netip.Addr     // the outer connection's peer
	at   netip.AddrPort // the same with its port, of what came by a port for TCP or TLS
	ctx  context.Context
	end  context.CancelCauseFunc
	// dry is what policies in dry run would have turned around when it was judged last; nil: nothing.
	dry atomic.Pointer[authz.Verdict]
}

// turns says whether policies in dry run would turn a verdict around, and otherwise than when the stream was judged before.
func (st *stream) turns(v authz.Verdict) bool {
	if v.DryAllowed == v.Allowed {
		st.dry.Store(nil)
		return false
	}
	before := st.dry.Swap(&v)
	return before == nil || *before != v
}

// revoked is the refusal for which the stream was ended, or nil.
func (st *stream) revoked() *Refusal {
	if refusal, ok := errors.AsType[*Refusal](context.Cause(st.ctx)); ok {
		return refusal
	}
	return nil
}

// admission is what a stream was let in to, and what it was judged by last.
type admission struct {
	target  target
	laws    uint64 // 0: it was not admitted yet
	wardens [2]*warden
}

// streams knows those that run or are being set up, and ends those that a new configuration does not allow.
type streams struct {
	mu   sync.Mutex
	open map[*stream]admission // zero until it is admitted
}

func newStreams() *streams { return &streams{open: map[*stream]admission{}} }

func (s *streams) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[st] = admission{}
}

func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
}

// admit notes what a stream was judged by. Whoever calls it looks afterwards whether that is still the configuration: a newer one that
// was published before did not find the stream admitted, and one that comes later does.
func (s *streams) admit(st *stream, by *config, t target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[st] = admission{t, by.laws, by.policies.wardens(t)}
}

// all are the streams of the moment.
func (s *streams) all() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.open))
}

// due says whether a stream was admitted, and is not judged by a configuration yet; if so, it is from now on. It gives what it was judged by before.
func (s *streams) due(st *stream, by *config) (admission, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, open := s.open[st]
	if !open || a.laws == 0 || a.laws == by.laws {
		return admission{}, false
	}
	s.open[st] = admission{a.target, by.laws, by.policies.wardens(a.target)}
	return a, true
}

// rejudge has streams ended that the configuration does not allow any more. It does not wait: the configuration, and the next one, count for new streams at once.
func (s *Server) rejudge() {
	select {
	case s.rejudged <- struct{}{}:
	default: // who will look does not look yet
	}
}

// judgeStreams judges streams whenever it is told to, each by the configuration of when its turn comes, until all are cut.
func (s *Server) judgeStreams() {
	for {
		select {
		case <-s.rejudged:
		case <-s.hard.Done():
			return
		}
		for _, st := range s.streams.all() {
			c := s.config.Load()
			was, due := s.streams.due(st, c)
			if !due {
				continue
			}
			if refusal := s.judgeAgain(c, st, was); refusal != nil {
				st.end(&Refusal{refusal.Status, ReasonRevoked, refusal.Err})
			}
		}
	}
}

// judgeAgain says why a stream that was let in is not allowed any more; nil: it is. Policies that are the same have decided already.
func (s *Server) judgeAgain(c *config, st *stream, was admission) *Refusal {
	t := was.target
	if c.isWaypoint() && t.service != nil && c.foreign(t.key(), c.namespaceOf(st.peer)) {
		return &Refusal{http.StatusUnauthorized, ReasonNotConsumer, fmt.Errorf("%s", t.key())}
	}
	if c.isWaypoint() && !c.serves(t) {
		return &Refusal{http.StatusServiceUnavailable, ReasonNotBehind, fmt.Errorf("%s", t.key())} // whose policies are not known here any more
	}
	if was.wardens == c.policies.wardens(t) {
		return c.admits(st.peer)
	}
	return s.authorize(c, st, t)
}
