// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
)

// errTurnOver ends what still reads a body for an attempt that was given up.
var errTurnOver = errors.New("the attempt was given up")

// pieceBytes is how much is read at a time of a body that is kept.
const pieceBytes = 4 << 10

// replay is a request's body that can be read again from its beginning, as long as not more of it was read than is kept. An attempt does not wait for the client any longer than it lasts: while it may be
// followed by another one, each piece is read by a goroutine that outlives it if the client takes its time. What comes then is the next attempt's.
type replay struct {
	src  io.Reader
	most int
	// trailer has at least the names of the trailers that come with the body; src writes the others there, and what they say, before err says that it has ended.
	trailer http.Header
	// memory is for kept; nil: it is somebody else's.
	memory *portion
	// alone says that no other attempt comes for what this one waits for: who reads the body does so itself, and keeps what comes for the case that its endpoint has not looked at it.
	alone bool

	mu      sync.Mutex // hold for all below
	moved   sync.Cond  // a piece is there, or an attempt is over
	kept    []byte
	err     error       // of src, which has ended
	reading bool        // somebody reads src
	names   http.Header // of trailer, before anything was read
	current *turn
	first   turn // is allocated with it
	lost    bool // more was read than is kept, or the client's end of it broke, or no other attempt will come
}

func newReplay(src io.Reader, most int, memory *portion) *replay {
	p := &replay{src: src, most: most, memory: memory}
	p.moved.L = &p.mu
	return p
}

// replayOf keeps a request's body to be sent again, in memory of a pool. It is nil for one that has none, and keeps nothing of one that is too large. Memory is taken as the bytes come; of a body for which
// there is no more while others keep much, nothing is kept.
func (s *Server) replayOf(t *trip, r *http.Request, memory *pool[string]) *replay {
	size, most := r.ContentLength, s.o.Limits.RetryBytes
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return nil
	case len(t.body) > 0: // kept for copies
		p := newReplay(nil, len(t.body), nil)
		p.kept, p.err, p.trailer = t.body, io.EOF, r.Trailer
		return p
	case size > most:
		p := newReplay(r.Body, 0, nil)
		p.trailer = r.Trailer
		return p
	case size >= 0:
		most = size + 1 // after all of it is read comes the end, which nothing is lost by
	}
	t.forRetries = &portion{pool: memory, namespace: t.target.Route.Namespace}
	p := newReplay(r.Body, int(most), t.forRetries)
	p.trailer = r.Trailer
	return p
}

// settle says that there will be no other attempt: what is kept is given up once the present one has read it.
func (p *replay) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = true
	p.tidy()
}

// isLost says whether the present attempt is the last that gets the body whole.
func (p *replay) isLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// tidy gives up what nobody will read again. mu must be held.
func (p *replay) tidy() {
	if p.lost && !p.reading && p.current != nil && p.current.at >= len(p.kept) {
		p.kept = nil
		p.memory.giveBack()
	}
}

// turn gives the body, from its beginning or from where it was read to if it was not rewound.
func (p *replay) turn() *turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		p.names = maps.Clone(p.trailer)
	}
	if p.current == nil {
		if p.current = &p.first; p.first.p != nil {
			p.current = new(turn)
		}
		p.current.p, p.current.trailer = p, maps.Clone(p.names)
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
	p.moved.Broadcast()
	return true
}

// fetch reads a piece of at most so many bytes of the body, which is the present attempt's when it is there.
func (p *replay) fetch(most int) {
	piece := make([]byte, most)
	n, err := p.src.Read(piece)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > 0 && !p.memory.grow(int64(n)) {
		p.lost = true
	}
	p.kept = append(p.kept, piece[:n]...)
	p.came(err)
}

// pass has who reads for the last attempt that gets the body do so itself. mu must be held.
func (p *replay) pass(b []byte) (int, error) {
	p.reading = true
	p.mu.Unlock()
	n, err := p.src.Read(b)
	p.mu.Lock()
	p.came(err)
	p.tidy()
	return n, err
}

// keep has who reads do so itself, and keeps what comes. mu must be held.
func (p *replay) keep(t *turn, b []byte) (int, error) {
	p.reading = true
	b = b[:min(len(b), p.most-len(p.kept))]
	p.mu.Unlock()
	n, err := p.src.Read(b)
	p.mu.Lock()
	if n > 0 && !p.memory.grow(int64(n)) {
		p.lost = true
	}
	p.kept = append(p.kept, b[:n]...)
	p.came(err)
	if t.over || p.current != t { // it is the next turn's
		return 0, errTurnOver
	}
	t.at += n
	p.tidy()
	return n, err
}

// came says that nobody reads src any more. mu must be held.
func (p *replay) came(err error) {
	if p.reading, p.err = false, err; err != nil && !errors.Is(err, io.EOF) {
		p.lost = true
	}
	p.moved.Broadcast()
}

// turn is the body as one attempt reads it.
type turn struct {
	p  *replay
	at int
	// over says that the attempt is. p.mu must be held.
	over bool
	// trailer is the attempt's own: who sends it may look while what it reads for another one comes to its end. It is whole when Read says that the body has ended.
	trailer http.Header
}

// end has who reads for an attempt that is over wait for the client no longer.
func (t *turn) end() {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.over = true
	t.p.moved.Broadcast()
}

// Read gives what was kept, and then what the client sends.
func (t *turn) Read(b []byte) (int, error) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case t.over, p.current != t:
			return 0, errTurnOver
		case len(b) == 0:
			return 0, nil
		case t.at < len(p.kept):
			n := copy(b, p.kept[t.at:])
			t.at += n
			p.tidy()
			return n, nil
		case p.err != nil:
			return 0, t.ends(p.err)
		case p.reading:
			p.moved.Wait()
			continue
		}
		if len(p.kept) >= p.most {
			p.lost = true
		}
		if p.lost {
			p.tidy()
			n, err := p.pass(b)
			return n, t.ends(err)
		}
		if p.alone {
			n, err := p.keep(t, b)
			return n, t.ends(err)
		}
		p.reading = true
		go p.fetch(min(p.most-len(p.kept), pieceBytes))
	}
}

// ends gives the turn the trailers if the body has ended, and the error back. p.mu must be held.
func (t *turn) ends(err error) error {
	if errors.Is(err, io.EOF) {
		maps.Copy(t.trailer, t.p.trailer)
	}
	return err
}

// Close leaves the body to the server, which closes it.
func (t *turn) Close() error { return nil }
