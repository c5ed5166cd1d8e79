// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// answerAfterRefusal is how long an answer is waited for from an endpoint that takes no more of a request's body: it may be on its way.
	answerAfterRefusal = 100 * time.Millisecond
	// sentAfterAnswer is how long the end of what was read of a body whole is waited for after its answer, so that the connection can be kept: the endpoint has it, and who wrote it knows it soon.
	sentAfterAnswer = 50 * time.Millisecond
)

// sending is a request with a body on its way to an endpoint, beside the goroutine that waits for the answer: that may come before the client has sent the body. A nil one has been sent whole.
type sending struct {
	there atomic.Bool  // the answer is, or nothing is
	read  atomic.Int64 // bytes of the body
	size  int64

	done    chan struct{}
	broken  error // why the body could not be read; set before done is closed
	refused error // why it could not be written; the same
}

// send writes a request with a body. It may outlive the attempt, as long as it waits for the client: the body ends it.
func (c *directConn) send(r *http.Request) *sending {
	s := &sending{size: r.ContentLength, done: make(chan struct{})}
	body := &watchedBody{ReadCloser: r.Body, read: &s.read}
	r = r.WithContext(r.Context())
	r.Body = body
	go func() {
		err := writeRequest(c.w, r)
		if err == nil {
			err = c.w.Flush()
		}
		s.broken, s.refused = body.err, err
		close(s.done)
		switch {
		case s.there.Load():
		case s.broken != nil:
			c.expire()
		case err != nil:
			time.AfterFunc(answerAfterRefusal, func() {
				if !s.there.Load() {
					c.expire()
				}
			})
		}
	}()
	return s
}

// answered says that nobody waits for the beginning of an answer any more.
func (s *sending) answered() {
	if s != nil {
		s.there.Store(true)
	}
}

// failed says why it was not sent whole, if it is over.
func (s *sending) failed() (broken, refused error) {
	if s == nil {
		return nil, nil
	}
	select {
	case <-s.done:
		return s.broken, s.refused
	default:
		return nil, nil
	}
}

// whole says whether it was all sent, so that another request may follow it.
func (s *sending) whole() bool {
	if s == nil {
		return true
	}
	select {
	case <-s.done:
		return s.refused == nil
	default:
	}
	if s.read.Load() < s.size {
		return false
	}
	timer := time.NewTimer(sentAfterAnswer)
	defer timer.Stop()
	select {
	case <-s.done:
		return s.refused == nil
	case <-timer.C:
		return false
	}
}

// watchedBody remembers why a request's body could not be read, which is no fault of the endpoint, and how much of it was.
type watchedBody struct {
	io.ReadCloser
	read *atomic.Int64
	err  error
}

// Read gives what the client sent.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
