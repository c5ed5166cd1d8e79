// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// patientBody is a request's body that ends a client that sends nothing.
type patientBody struct {
	body    interface{ Read([]byte) (int, error) }
	close   func() error // nil in HTTP/1, where it would wait for the rest: the server does that, after the answer (see linger)
	control *http.ResponseController
	stall   time.Duration
	now     func() time.Time
	stalled *atomic.Bool // set when it was too late: the library says only that the request ended
	garbled *atomic.Bool // set when what came is no body; nil: of HTTP/2, whose frames the library judges before
	invited bool         // the client sends it when it is asked to (Expect: 100-continue)
	size    int64        // -1: nobody knows

	early bool          // the answer was there before it; of who answers
	turn  chan struct{} // has something in it while somebody reads

	mu        sync.Mutex // hold for all below, and to set deadlines
	until     time.Time
	ended     bool // it was read whole
	isCut     bool
	woken     bool // who reads it was, so that the client can be answered
	closed    bool // nobody wants it any more
	lingering bool // the answer is sent, and was there before it
}

// uploadOf is the body of a request that has one.
func (s *Server) uploadOf(t *trip, r *http.Request) *patientBody {
	b := &patientBody{
		body: r.Body, control: &t.answer.control, stall: s.o.Limits.StallTime, now: s.o.Now, stalled: &t.stalled,
		invited: r.Header.Get("Expect") != "", size: r.ContentLength, turn: make(chan struct{}, 1),
	}
	if r.ProtoMajor == 1 {
		b.garbled = &t.garbled
	}
	return b
}

// errCutBody ends what reads a body that nobody wants any more.
var errCutBody = errors.New("the request is over")

// Read gives what the client sent.
func (b *patientBody) Read(p []byte) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if err := b.begin(); err != nil {
		return 0, err
	}
	n, err := b.body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.lingering:
		return 0, errCutBody
	case errors.Is(err, io.EOF) && !b.isCut:
		b.until, b.ended = time.Time{}, true
		if !b.closed { // else the handler may be done
			_ = b.control.SetReadDeadline(time.Time{}) // from now on the server waits for the client to leave, for any time
		}
	case errors.Is(err, os.ErrDeadlineExceeded) && (b.isCut || b.woken) && b.now().Before(b.until):
		err = errCutBody
	case errors.Is(err, os.ErrDeadlineExceeded): // the library ends the request for it, which may have cut the body meanwhile
		b.stalled.Store(true) // the deadline stays, or the server would wait for the rest
	case err != nil && !b.isCut && b.garbled != nil && isGarbled(err):
		b.garbled.Store(true)
	}
	return n, err
}

// isGarbled says whether a body could not be read for what its client has sent, as the library's reader of chunks finds: its errors have no names, but those of clients that leave, of limits, and of ourselves do.
func isGarbled(err error) bool {
	var lost net.Error
	var large *http.MaxBytesError
	return !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, http.ErrBodyReadAfterClose) && !errors.As(err, &lost) && !errors.As(err, &large)
}

// begin gives the client time for the next piece, unless the body is cut, or has ended: transports ask again then, but the server, which closes it when the answer begins, would call that a mistake.
func (b *patientBody) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return io.EOF
	case b.isCut, b.woken, b.lingering, b.closed:
		return errCutBody
	}
	if now := b.now(); b.until.Sub(now) < b.stall*7/8 {
		b.until = now.Add(b.stall)
		_ = b.control.SetReadDeadline(b.until) // what cannot have one has none
	}
	return nil
}

// late says whether the client's time for the next piece is over.
func (b *patientBody) late() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.ended && !b.until.IsZero() && !b.now().Before(b.until)
}

// cut ends who reads. Before it answers, the server would wait for the rest of the body too, and so does not.
func (b *patientBody) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.isCut {
		return
	}
	b.isCut = true
	_ = b.control.SetReadDeadline(past)
}

// wake ends who reads, so that the client can be answered. The library takes the request for ended by that, as if the client had left.
func (b *patientBody) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.isCut || b.woken || b.lingering {
		return
	}
	b.woken = true
	_ = b.control.SetReadDeadline(past)
}

// wasWoken says whether it ended so.
func (b *patientBody) wasWoken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.woken
}

// Close has nobody begin to read any more.
func (b *patientBody) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	if b.close == nil {
		return nil
	}
	return b.close()
}
