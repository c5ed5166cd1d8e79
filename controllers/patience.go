// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// listPace is how much a list must bring while it is read, in bytes per second. Less brings nobody anywhere, and another connection may be better.
	listPace = 1 << 10
	// listWindow is for how long it may be slower.
	listWindow = 30 * time.Second
	// shortest is how long a watch lasts for who follows, at least: a shorter one that told nothing is a reason for a reflector to read everything anew.
	shortest = 1100 * time.Millisecond
	// holdMost is how long nothing is asked of a server that does not answer questions. Then one attempt is made: it may answer others.
	holdMost = time.Minute
	// retryAfterMost is how long we leave a server alone that asks for it.
	retryAfterMost = 30 * time.Second
)

// quietWatch is how long a watch may be silent before it is begun anew. An API server tells each of them how far it is about once a minute, so one that is silent for
// longer leads nowhere, though its connection is there: to a proxy that lost what is behind it, say. It is a variable for tests, like probeEvery.
var quietWatch = 3 * time.Minute

var (
	errQuiet = errors.New("nothing came for too long")
	errSlow  = fmt.Errorf("less than %d bytes came in %s", listPace*int64(listWindow/time.Second), listWindow)
)

// patience is a remote connection's transport for whoever follows a kind: what fails is tried again here, at times of our own choice. A reflector's pauses
// double up to a minute with every failure, of whatever kind, and are forgotten after two minutes: after a loss nobody would know for a minute what
// has happened since. Ours are bounded by probeEvery, differ at random so that clusters that were lost together do not come back together, and end when the
// server answers our questions again.
type patience struct {
	next    http.RoundTripper
	follows *follows
	gate    *gate
	failed  func() // an attempt failed, and another one will be made
}

// RoundTrip implements http.RoundTripper. For who follows it returns what the reflector has to know: success, that the history is gone, that the kind is.
func (p *patience) RoundTrip(r *http.Request) (*http.Response, error) {
	watch, follows := followed(r)
	if !follows {
		answer, err := p.next.RoundTrip(r)
		if err == nil {
			answer.Header.Del("Retry-After") // client-go would wait for as long as it says
		}
		return answer, err
	}
	for {
		if err := p.turn(r); err != nil {
			return nil, err
		}
		answer, err := p.attempt(r, watch)
		wait, again := retriable(answer, err)
		if !again || r.Context().Err() != nil {
			if err == nil {
				answer.Header.Del("Retry-After")
			}
			return answer, err
		}
		if err == nil {
			_, _ = io.CopyN(io.Discard, answer.Body, 4<<10) // so that the connection can be used again
			_ = answer.Body.Close()
		}
		p.failed()
		if err := sleep(r.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// retriable says whether the next attempt may succeed though nobody does anything here, and for how long the server wants to be left alone.
func retriable(answer *http.Response, err error) (wait time.Duration, again bool) {
	if err != nil {
		return 0, !errors.Is(err, errFull)
	}
	switch code := answer.StatusCode; {
	case code == http.StatusTooManyRequests, code >= 500:
		seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
		if err != nil || seconds < 0 {
			return 0, true
		}
		return min(time.Duration(min(seconds, 3600))*time.Second, retryAfterMost, probeEvery), true
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return 0, true
	}
	return 0, false
}

// turn waits until it is time for another attempt.
func (p *patience) turn(r *http.Request) error {
	failures, last := p.follows.record(r.URL.Path)
	if failures > 0 {
		if err := sleep(r.Context(), time.Until(last.Add(pause(failures)))); err != nil {
			return err
		}
	}
	return p.gate.wait(r.Context())
}

// pause is the time between two attempts after so many failures in a row: between half of it and all.
func pause(failures int) time.Duration {
	most := max(retryMin, probeEvery)
	d := min(retryMin<<min(failures-1, 10), most)
	return d/2 + rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// attempt asks once. An answer that does not begin, or go on, is ended.
func (p *patience) attempt(r *http.Request, watch bool) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	flow := &flow{watch: watch, began: time.Now(), ctx: ctx, cancel: cancel, garbled: func() {
		if r.Context().Err() == nil {
			p.follows.failed(r.URL.Path, http.StatusOK, "what it tells cannot be read")
		}
	}}
	flow.look(quietWatch)
	answer, err := p.next.RoundTrip(r.WithContext(context.WithValue(ctx, progressKey{}, &flow.came)))
	if err != nil {
		flow.stop()
		if cause := context.Cause(ctx); r.Context().Err() == nil && errors.Is(cause, errQuiet) {
			p.follows.failed(r.URL.Path, 0, "no answer begins within "+quietWatch.String())
			err = cause
		}
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		flow.watch = false // whatever it says is short
	}
	if !flow.watch {
		flow.look(listWindow)
	}
	flow.ReadCloser = answer.Body
	answer.Body = flow
	return answer, nil
}

// progressKey is under which a request has the count of its answer's bytes.
type progressKey struct{}

// progress notes that bytes of the answer to a request came, before they are read by whoever asked: a page is held until it is whole.
func progress(ctx context.Context, n int64) {
	if came, ok := ctx.Value(progressKey{}).(*atomic.Int64); ok {
		came.Add(n)
	}
}

// flow is the body of an answer that must go on.
type flow struct {
	io.ReadCloser
	watch  bool
	began  time.Time
	ctx    context.Context // of the attempt
	cancel context.CancelCauseFunc

	came  atomic.Int64 // bytes of the answer as the server sends it, see progress
	ended atomic.Bool  // by the other side, or by us for a reason of ours

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool

	garbled func() // called when who reads ends a watch that has just begun: it says nothing that can be read
}

// look ends the answer if too little comes within each such time from now on.
func (f *flow) look(within time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
	}
	before, least, why := f.came.Load(), int64(1), errQuiet
	if within == listWindow && !f.watch {
		least, why = listPace*int64(listWindow/time.Second), errSlow
	}
	var check func()
	check = func() {
		now := f.came.Load()
		if now-before < least {
			f.cancel(why)
			return
		}
		before = now
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.stopped {
			f.timer = time.AfterFunc(within, check)
		}
	}
	if !f.stopped {
		f.timer = time.AfterFunc(within, check)
	}
}

func (f *flow) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.timer.Stop()
	f.cancel(nil)
}

// Read implements io.Reader.
func (f *flow) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err == nil || n > 0 {
		return n, err
	}
	f.ended.Store(true)
	if errors.Is(err, errMalformed) {
		f.garbled()
	}
	switch cause := context.Cause(f.ctx); {
	case errors.Is(cause, errQuiet):
		err = io.EOF // it is gone on from there
	case errors.Is(cause, errSlow):
		err = cause
	}
	if f.watch && f.ctx.Err() == nil {
		_ = sleep(f.ctx, time.Until(f.began.Add(shortest)))
		if !errors.Is(err, io.EOF) && !errors.Is(err, errFull) && !errors.Is(err, errTooMuch) {
			err = io.ErrUnexpectedEOF // the one way to be cut after which a reflector goes on from where it was: of others it makes a list, and a long pause
		}
	}
	return n, err
}

// Close implements io.Closer.
func (f *flow) Close() error {
	f.stop()
	err := f.ReadCloser.Close()
	if f.watch && !f.ended.Swap(true) && time.Since(f.began) < steady {
		f.garbled()
	}
	return err
}

// gate holds back who follows while a server does not answer our questions.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // closed when it opens; nil while it is open
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && g.shut != nil:
		close(g.shut)
		g.shut = nil
	case !open && g.shut == nil:
		g.shut = make(chan struct{})
	}
}

// wait returns when the gate is open, or after holdMost.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return ctx.Err()
	}
	timer := time.NewTimer(holdMost)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-shut:
	case <-timer.C:
	}
	return nil
}
