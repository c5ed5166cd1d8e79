// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// backoffBase is the time before the second attempt where a rule names none; the API leaves it to us.
	backoffBase = 25 * time.Millisecond
	// backoffGrowth bounds the time before later ones, as a multiple of the base. It doubles with each.
	backoffGrowth = 10
	// backoffMost bounds the base: no client waits that long.
	backoffMost = 24 * time.Hour
)

// tries is how often one request may still be sent.
type tries struct {
	left int // attempts after the one under way
	// failed are the endpoints, by UID, that have failed it and may be asked again if there are no others.
	failed map[string]struct{}
	// body is what is kept of the request's body for later attempts, and for an endpoint that does not process it; nil: nothing.
	body *replay
	// last says that none comes after the one under way. Unlike left, any goroutine may look.
	last atomic.Bool
}

// take uses one up.
func (l *tries) take() {
	if l.left--; l.left <= 0 {
		l.last.Store(true)
	}
}

// over says that none comes after the present one: there are no more, or the body cannot be sent again.
func (l *tries) over() bool { return l.last.Load() || l.body != nil && l.body.isLost() }

// persist sends a request until its answer is none to try again for, or the rule, the budget, or its time is exhausted. The last answer
// counts then, whatever it is.
func (rt roundTripper) persist(r *http.Request, t *trip) (*http.Response, error) {
	s, policy := rt.s, t.target.Rule.Retry
	load := s.budgets.begin(t.backend.Service)
	defer s.budgets.end(t.backend.Service, load)
	left := &tries{left: int(policy.Attempts)}
	defer func() {
		if left.last.Store(true); t.cut != nil && t.timeUp() { // before the timer could know
			t.cut()
		}
	}()
	var body *replay
	if left.left > 0 {
		if body = s.replayOf(t, r, s.replayed); body != nil {
			left.body = body
			defer body.settle()
		}
	} else {
		left.last.Store(true)
	}
	for wait := range backoff(policy.Backoff) {
		one := r.WithContext(r.Context())
		u := *r.URL // what is left of an attempt that failed may still look at its own
		one.URL = &u
		if body != nil {
			turn := body.turn()
			one.Body, one.Trailer = turn, turn.trailer
		}
		response, err := rt.attempt(one, t, left)
		if e := t.endpoint.Load(); e != nil && r.Context().Err() == nil && speaksAgainst(policy, r, response, err) {
			of := keyOf(*e)
			if errors.Is(err, errAttemptTimeUp) {
				of = of.by(t.target.Route)
			}
			if s.outliers.answeredBadly(of) {
				s.metrics.leftOut.Inc()
			}
		}
		if left.left <= 0 || r.Context().Err() != nil || t.stalled.Load() || !tryAgain(policy, r.Method, response, err) {
			return response, err
		}
		if !s.budgets.take(t.backend.Service, load) {
			s.metrics.retries.WithLabelValues("over_budget").Inc()
			return response, err
		}
		if body != nil && !body.rewind() {
			s.metrics.retries.WithLabelValues("body_not_kept").Inc()
			return response, err
		}
		s.metrics.retries.WithLabelValues("sent").Inc()
		left.take()
		if e := t.endpoint.Load(); e != nil {
			if left.failed == nil {
				left.failed = map[string]struct{}{}
			}
			left.failed[e.Workload.UID] = struct{}{}
		}
		drop(response)
		if !sleep(r.Context(), wait) {
			return nil, context.Cause(r.Context())
		}
	}
	return nil, nil // not reached: backoff does not end
}

// tryAgain says whether an attempt failed in a way that another one may help. A request that a backend may have seen, and has not answered, is sent again
// if that changes nothing (RFC 9110, 9.2.2), or if the rule names the status that the client would be told.
func tryAgain(policy *mesh.HTTPRetry, method string, response *http.Response, err error) bool {
	named := func(status int) bool {
		_, ok := slices.BinarySearch(policy.Codes, uint16(status))
		return ok
	}
	if err == nil {
		return named(response.StatusCode)
	}
	refusal := refusalOf(context.Background(), err)
	switch refusal.Reason {
	case ReasonConnect:
		return true // no byte was sent
	case ReasonUpstream, ReasonTimeout:
		return idempotent(method) || named(refusal.Status)
	default:
		return false
	}
}

// speaksAgainst says whether what came of an attempt is its endpoint's fault, as far as the rule's codes tell: an answer that is one of the server's errors and is to be tried again, or
// none. A request with a body may have none for its client's sake.
func speaksAgainst(policy *mesh.HTTPRetry, r *http.Request, response *http.Response, err error) bool {
	if err == nil {
		return response.StatusCode >= http.StatusInternalServerError && tryAgain(policy, r.Method, response, nil)
	}
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	reason := refusalOf(context.Background(), err).Reason
	return reason == ReasonUpstream || reason == ReasonTimeout
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// backoff gives the times between attempts, without end: they double from the base, each with up to a half off so that requests that failed
// together do not come back together.
func backoff(base time.Duration) func(yield func(time.Duration) bool) {
	if base <= 0 {
		base = backoffBase
	}
	base = min(base, backoffMost)
	return func(yield func(time.Duration) bool) {
		for next := base; yield(next - rand.N(next/2+1)); {
			next = min(2*next, backoffGrowth*base)
		}
	}
}

// sleep waits, and says whether it did to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// drop ends an answer that nobody will see. Its body is not read for the sake of the connection: it may never come.
func drop(response *http.Response) {
	if response != nil {
		response.Body.Close()
	}
}

// attempt sends a request once, within the rule's time for a backend, which is over when the answer's body is closed. What follows an upgrade has any time. A connection that cannot be made is tried at another endpoint, and counts as one of the tries.
func (rt roundTripper) attempt(r *http.Request, t *trip, left *tries) (*http.Response, error) {
	t.attempts++
	limit := t.target.Rule.BackendTimeout
	body, _ := r.Body.(*turn)
	t.turn, t.left = body, nil
	if r.Body != nil && r.Body != http.NoBody {
		t.left = left
	}
	if limit <= 0 {
		return rt.s.carry(r, t.backend, left)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	t.attempt = ctx
	timer := time.AfterFunc(limit, func() {
		last := left.over() // asked first: the next attempt may begin as soon as this one is over, and it is not to be cut
		cancel(errAttemptTimeUp)
		if body != nil { // or who reads it would wait for the client
			body.end()
		}
		if t.cut != nil && last {
			t.cut()
		}
	})
	response, err := rt.s.carry(r.WithContext(ctx), t.backend, left)
	end := func() {
		timer.Stop()
		cancel(nil)
	}
	switch {
	case errors.Is(context.Cause(ctx), errAttemptTimeUp):
		if err == nil {
			response.Body.Close()
		}
		return nil, errAttemptTimeUp
	case err != nil:
		end()
		return nil, err
	case response.StatusCode == http.StatusSwitchingProtocols:
		timer.Stop()
	}
	response.Body = endingBody(response.Body, end)
	return response, nil
}
