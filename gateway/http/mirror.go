// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bytes"
	"context"
	"errors"
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
	if r.ContentLength < 0 || r.ContentLength > s.o.Limits.MirrorBytes {
		s.skipMirrors(t)
		return nil
	}
	t.forCopies = &portion{pool: s.copied, namespace: t.target.Route.Namespace}
	var whole bool
	var err error
	if t.body, whole, err = readWhole(r.Body, r.ContentLength, t.forCopies.grow); err != nil {
		return err
	}
	if !whole {
		s.skipMirrors(t)
		r.Body = &begun{io.MultiReader(bytes.NewReader(t.body), r.Body), r.Body}
		t.body = nil
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(t.body))
	return nil
}

func (s *Server) skipMirrors(t *trip) {
	s.metrics.mirrors.WithLabelValues("skipped").Add(float64(len(t.mirrors)))
	t.mirrors = nil
}

// firstRead is how much memory a body has before the first byte of it is there, in bytes.
const firstRead = 512

// readWhole reads a body of a size for which keep is asked for memory as the bytes come, so that whoever only promises some has none: at most twice as much as came, and firstRead, is
// used. If there is no more, the body is not whole: what came of it is given, and the rest is still to be read.
func readWhole(from io.Reader, size int64, keep func(n int64) bool) (body []byte, whole bool, err error) {
	body = make([]byte, 0, min(size, firstRead))
	for int64(len(body)) < size {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, min(size, 2*int64(cap(body)))), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case n > 0 && !keep(int64(n)):
			return body, false, nil // an error comes again to who reads on
		case int64(len(body)) == size:
		case errors.Is(err, io.EOF):
			return nil, false, io.ErrUnexpectedEOF
		case err != nil:
			return nil, false, err
		}
	}
	return body, true, nil
}

// begun is a body of which a part was read before.
type begun struct {
	io.Reader
	io.Closer
}

// release is called when the request is over. Copies that are still under way are bounded by their number.
func (s *Server) release(t *trip) {
	t.forCopies.giveBack()
	t.forRetries.giveBack()
}

// mirror sends copies of a request as it goes to its backend, and throws the answers away.
func (s *Server) mirror(t *trip, r *http.Request) {
	namespace := t.target.Route.Namespace
	for _, b := range t.mirrors {
		if !s.mirrors.take(namespace, 1) {
			s.metrics.mirrors.WithLabelValues("skipped").Inc()
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), mirrorTime)
		ctx = context.WithValue(ctx, tripKey{}, (*trip)(nil))
		out := r.Clone(ctx)
		changeRequest(out, &b.Filters.Request)
		out.Header[headerVia] = r.Header[headerVia]
		if out.Body = http.NoBody; len(t.body) > 0 {
			out.Body = io.NopCloser(bytes.NewReader(t.body))
		}
		s.copies.Go(func() {
			defer cancel()
			defer s.mirrors.give(namespace, 1)
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
