// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// mirrorTime is how long a copy of a request may take, answer included.
const mirrorTime = 30 * time.Second

// chooseMirrors draws which copies of a request are made, and keeps its body for them. A request whose size is not known is not mirrored: it
// may be half of a conversation, which would have to end before it could begin.
func (s *Server) chooseMirrors(t *trip, r *http.Request) error {
	for _, list := range [][]mesh.HTTPMirror{t.target.Rule.Filters.Mirrors, t.backend.Filters.Mirrors} {
		for i := range list {
			if m := &list[i]; m.Backend.Problem == "" && rand.Uint32N(m.Denominator) < m.Numerator {
				if s.admitTo(t, &m.Backend, &Asked{server: s, trip: t, came: r, copied: m, sent: true}) != nil {
					s.metrics.mirrors.WithLabelValues("skipped").Inc()
					continue
				}
				t.mirrors = append(t.mirrors, &m.Backend)
			}
		}
	}
	if len(t.mirrors) == 0 || r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength < 0 || r.ContentLength > s.o.Limits.MirrorBytes || !s.keep(t, r.ContentLength) {
		s.metrics.mirrors.WithLabelValues("skipped").Add(float64(len(t.mirrors)))
		t.mirrors = nil
		return nil
	}
	t.body = make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, t.body); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(t.body))
	return nil
}

// keep reserves memory for the body of a request, if there is some. release gives it back.
func (s *Server) keep(t *trip, size int64) bool {
	if s.kept.Add(size) > s.o.Limits.BodyMemory {
		s.kept.Add(-size)
		return false
	}
	t.kept += size
	return true
}

// release is called when the request is over. Copies that are still under way are bounded by their number.
func (s *Server) release(t *trip) {
	s.kept.Add(-t.kept)
	if t.give != nil {
		t.give()
	}
}

// mirror sends copies of a request as it goes to its backend, and throws the answers away.
func (s *Server) mirror(t *trip, r *http.Request) {
	for _, b := range t.mirrors {
		select {
		case s.mirrors <- struct{}{}:
		default:
			s.metrics.mirrors.WithLabelValues("skipped").Inc()
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), mirrorTime)
		ctx = context.WithValue(ctx, tripKey{}, (*trip)(nil))
		out := r.Clone(ctx)
		changeRequest(out, &b.Filters.Request)
		if out.Body = http.NoBody; len(t.body) > 0 {
			out.Body = io.NopCloser(bytes.NewReader(t.body))
		}
		s.copies.Go(func() {
			defer cancel()
			defer func() { <-s.mirrors }()
			outcome := "sent"
			response, err := s.carry(out, b, &tries{left: maxAttempts - 1})
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			if err != nil {
				outcome = "failed"
			}
			s.metrics.mirrors.WithLabelValues(outcome).Inc()
		})
	}
}
