// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// errTurnOver ends what still reads a body for an attempt that was given up.
var errTurnOver = errors.New("the attempt was given up")

// replay is a request's body that can be read again from its beginning, as long as not more of it was read than is kept.
type replay struct {
	src  io.Reader
	most int
	// memory is for kept; nil: it is somebody else's.
	memory *portion

	reading sync.Mutex // hold while reading, for kept and err
	kept    []byte
	err     error // of src, which has ended

	mu      sync.Mutex // hold for both below
	current *turn
	lost    bool // more was read than is kept, or the client's end of it broke, or no other attempt will come
}

// replayOf keeps a request's body for other attempts. It is nil for one that has none, and keeps nothing of one that is too large. Memory is taken as the bytes come; of a body for which
// there is no more while others keep much, nothing is kept.
func (s *Server) replayOf(t *trip, r *http.Request) *replay {
	size, most := r.ContentLength, s.o.Limits.RetryBytes
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return nil
	case len(t.body) > 0: // kept for copies
		return &replay{kept: t.body, err: io.EOF, most: len(t.body)}
	case size > most:
		return &replay{src: r.Body}
	case size >= 0:
		most = size + 1 // after all of it is read comes the end, which nothing is lost by
	}
	t.forRetries = &portion{pool: s.replayed, namespace: t.target.Route.Namespace}
	return &replay{src: r.Body, most: int(most), memory: t.forRetries}
}

// settle says that there will be no other attempt: what is kept is given up once the present one has read it.
func (p *replay) settle() {
	p.mu.Lock()
	p.lost = true
	p.mu.Unlock()
	if p.reading.TryLock() { // else who reads does it
		p.tidy()
		p.reading.Unlock()
	}
}

// isLost says whether the present attempt is the last that gets the body whole.
func (p *replay) isLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// tidy gives up what nobody will read again. reading must be held.
func (p *replay) tidy() {
	p.mu.Lock()
	needless := p.lost && p.current != nil && p.current.at >= len(p.kept)
	p.mu.Unlock()
	if !needless {
		return
	}
	p.kept = nil
	p.memory.giveBack()
}

// turn gives the body, from its beginning or from where it was read to if it was not rewound.
func (p *replay) turn() io.ReadCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		p.current = &turn{p: p}
	}
	return p.current
}

// rewind has the next turn begin anew, and says whether that is possible. The turn before is over then.
func (p *replay) rewind() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost {
		return false
	}
	p.current = nil
	return true
}

// turn is the body as one attempt reads it.
type turn struct {
	p  *replay
	at int
}

// Read gives what was kept, and then what the client sends. Who reads for an attempt that is over may be waiting for the client still: what comes is kept for the next.
func (t *turn) Read(b []byte) (int, error) {
	p := t.p
	p.reading.Lock()
	defer p.reading.Unlock()
	defer p.tidy()
	p.mu.Lock()
	over := p.current != t
	fresh := t.at >= len(p.kept) && p.err == nil
	if !over && fresh && len(p.kept) >= p.most {
		p.lost = true
	}
	keep := !p.lost
	p.mu.Unlock()
	switch {
	case over:
		return 0, errTurnOver
	case t.at < len(p.kept):
		n := copy(b, p.kept[t.at:])
		t.at += n
		return n, nil
	case !fresh:
		return 0, p.err
	}
	n, err := p.src.Read(b)
	if keep && n > 0 && !p.memory.grow(int64(n)) {
		p.mu.Lock()
		p.lost = true
		keep = p.current != t // the next attempt has begun, and has nobody else to get this from
		p.mu.Unlock()
	}
	if keep {
		p.kept = append(p.kept, b[:n]...)
		t.at += n
	}
	if p.err = err; err != nil && !errors.Is(err, io.EOF) {
		p.mu.Lock()
		p.lost = true
		p.mu.Unlock()
	}
	return n, err
}

// Close leaves the body to the server, which closes it.
func (t *turn) Close() error { return nil }
