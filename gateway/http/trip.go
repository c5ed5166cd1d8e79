// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// trip is one request on its way: what was decided for it, and what the access log will say of it. It belongs to the request's goroutine, but for
// endpoint and stalled.
type trip struct {
	visit      *Visit // nil: it came by a listener's own port
	stand      stand
	generation uint64 // of what it was judged by
	began      time.Time
	span       *tracing.Span // nil: it is not traced
	found
	backend    *mesh.HTTPBackend
	from       netip.Addr // the client's
	asked      Asked      // as it came
	sent       Asked      // as the backend gets it
	grpc       bool       // the client speaks gRPC, and is answered in it
	origin     string     // of the script that sends it; empty: none says so
	mirrors    []*mesh.HTTPBackend
	body       []byte   // of a request that is mirrored
	forCopies  *portion // of the memory for what is kept of it; nil: nothing is
	forRetries *portion // the same to be sent again
	attempts   int      // at backends; connections that could not be made are part of one
	endpoint   atomic.Pointer[Endpoint]
	stalled    atomic.Bool // the client did
	garbled    atomic.Bool // the client's body is none, in HTTP/1
	upgraded   func() bool // ends the request's time, as it is answered by another protocol; nil: it wants none, or has any time
	late       func() bool // whether the client's time for the next piece of its body is over; nil: it has no body
	early      *early      // hands answers of 1xx on; nil: nobody does, or the library
	cut        func()      // ends reading of the request's body; nil: it has none
	turn       *turn       // of the attempt; nil: it sends the body as it comes, or none
	left       *tries      // after it; nil: it sends no body

	ctx     context.Context // of what is asked of backends; nil: nothing was
	attempt context.Context // of the last attempt; nil: attempts have no time of their own
	reason  Reason
	err     error

	// What every request has is allocated with it.
	answer answer
	within tripContext
	hands  early
}

// timeUp says whether the time that the request had is over, or that of the backend which answers it.
func (t *trip) timeUp() bool {
	return t.ctx != nil && errors.Is(context.Cause(t.ctx), errTimeUp) || t.attempt != nil && errors.Is(context.Cause(t.attempt), errAttemptTimeUp)
}

// giveUp gives what ends who reads the request's body for the attempt.
func (t *trip) giveUp() func() {
	turn, left := t.turn, t.left
	return func() {
		if turn != nil {
			turn.end()
		}
		if left.over() {
			t.stopReading()
		}
	}
}

// stopReading ends who reads the request's body now, because its endpoint is gone. The client is answered, and so is no more late.
func (t *trip) stopReading() {
	switch upload := t.answer.upload; {
	case upload != nil:
		upload.wake()
	case t.cut != nil:
		t.cut()
	}
}

// revoked says whether the request was ended because policies have turned against it.
func (t *trip) revoked() bool {
	return t.ctx != nil && errors.Is(context.Cause(t.ctx), errRevoked)
}

type tripKey struct{}

// tripContext is the context of a trip.
type tripContext struct {
	context.Context
	trip *trip
}

// Value gives the trip, or what the context that it is in has.
func (c *tripContext) Value(key any) any {
	if key == (tripKey{}) {
		return c.trip
	}
	return c.Context.Value(key)
}

func tripOf(ctx context.Context) *trip {
	t, _ := ctx.Value(tripKey{}).(*trip)
	return t
}

// answer is a ResponseWriter that remembers what was answered, and ends a client that takes nothing.
type answer struct {
	http.ResponseWriter
	control http.ResponseController
	stall   time.Duration
	now     func() time.Time

	status int
	bytes  int64
	until  time.Time    // the deadline that was set last
	upload *patientBody // of the request, in HTTP/1; nil: it has no body, or comes otherwise
	watch  *watch       // of HTTP/2, whose deadlines also end a stream on which nobody writes; else nil
}

// Unwrap lets http.ResponseController find what the writer can do.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader remembers the status; those of 1xx come before it, but for 101.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.begins(status)
	}
	if a.upload != nil && status >= 200 {
		a.upload.answered(a.Header())
	}
	if a.watch == nil {
		a.hurry() // it may be sent at once
	}
	a.ResponseWriter.WriteHeader(status)
}

// begins notes the status. A body that nobody has named a type for has none: the library would guess, and a browser might take for a page what somebody has uploaded.
func (a *answer) begins(status int) {
	a.status = status
	if h := a.Header(); h["Content-Type"] == nil {
		h["Content-Type"] = nil
	}
}

// Write counts. The deadline is moved at most once in an eighth of the time.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.begins(http.StatusOK)
	}
	defer a.hurry()()
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// FlushError sends what is held back.
func (a *answer) FlushError() error {
	defer a.hurry()()
	return a.control.Flush()
}

// hurry bounds the time of what is sent from now on, until it is sent.
func (a *answer) hurry() (sent func()) {
	if a.watch != nil {
		a.watch.begin()
		return a.watch.end
	}
	if now := a.now(); a.until.Sub(now) < a.stall*7/8 {
		a.until = now.Add(a.stall)
		_ = a.control.SetWriteDeadline(a.until) // what cannot have one has none
	}
	return func() {}
}

// begin takes the deadline of the request before it on the same connection away.
func (a *answer) begin() { _ = a.control.SetWriteDeadline(time.Time{}) }

// end bounds the time for what the library still holds back, which for a small answer is all of it.
func (a *answer) end() {
	if a.watch == nil {
		a.hurry()
		return
	}
	a.watch.end()
	_ = a.control.SetWriteDeadline(a.now().Add(a.stall))
}
