// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// stream is a CONNECT from its arrival to the end of what it carries.
type stream struct {
	peer mesh.Identity // proved by the outer connection
	from netip.Addr    // the outer connection's peer
	ctx  context.Context
	end  context.CancelCauseFunc
}

// revoked is the refusal for which the stream was ended, or nil.
func (st *stream) revoked() *Refusal {
	if refusal, ok := errors.AsType[*Refusal](context.Cause(st.ctx)); ok {
		return refusal
	}
	return nil
}

// admission is what a stream was let in to, and the configuration that it was judged by last.
type admission struct {
	target target
	by     *config
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
func (s *streams) admit(st *stream, a admission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[st] = a
}

// due collects the admitted streams that were not judged by a configuration yet, and marks them as judged.
func (s *streams) due(by *config) map[*stream]target {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[*stream]target{}
	for st, a := range s.open {
		if a.by != nil && a.by != by {
			s.open[st] = admission{a.target, by}
			out[st] = a.target
		}
	}
	return out
}

// rejudge ends the streams that a new configuration does not allow.
func (s *Server) rejudge(c *config) {
	for st, t := range s.streams.due(c) {
		refusal := s.authorize(c, st, t)
		if c.isWaypoint() && !c.serves(t) {
			refusal = &Refusal{http.StatusServiceUnavailable, ReasonNotBehind, fmt.Errorf("%s", t.key())} // whose policies are not known here any more
		}
		if c.isWaypoint() && t.service != nil && c.foreign(t.key(), c.namespaceOf(st.peer)) {
			refusal = &Refusal{http.StatusUnauthorized, ReasonNotConsumer, fmt.Errorf("%s", t.key())}
		}
		if refusal != nil {
			st.end(&Refusal{refusal.Status, ReasonRevoked, refusal.Err})
		}
	}
}
