// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// PoolSettings tunes a Pool. The zero value of a field means its default.
type PoolSettings struct {
	// MaxStreams bounds the streams on one connection, besides what its Settings and the peer say. 100.
	MaxStreams int
	// DialTimeout bounds one dial, handshakes included. 10 s, as ztunnel's.
	DialTimeout time.Duration
	// IdleTimeout is how long a connection without streams is kept. 5 min.
	IdleTimeout time.Duration
	// MaxBackoff bounds the time in which a key whose last dials failed gives the last error without a new dial. It begins with the second
	// failure in a row at 50 ms, doubles, and is cut by a random part of up to a half. 1 s.
	MaxBackoff time.Duration
}

func (s PoolSettings) withDefaults() PoolSettings {
	setDefault(&s.MaxStreams, 100)
	setDefault(&s.DialTimeout, 10*time.Second)
	setDefault(&s.IdleTimeout, 5*time.Minute)
	setDefault(&s.MaxBackoff, time.Second)
	return s
}

const (
	// maxAttempts bounds how often Open tries again after a connection refused it unprocessed or died under it.
	maxAttempts = 4
	// maxRaces bounds how often Open may find the connection that it was given full: a thousand who come at once choose the same one.
	maxRaces = 64
)

// Pool shares client connections by key. The key must hold everything that makes two connections different: who we are, whom we expect, where.
//
// Open takes the connection with the fewest streams. A connection that is full, draining or dead is passed over, and another one dialled: of
// all who wait for the same key, one dials for as many as a connection carries.
type Pool[K comparable] struct {
	dial func(context.Context, K) (*Conn, error)
	set  PoolSettings

	// ctx ends with Close, and the dials with it.
	ctx    context.Context
	cancel context.CancelCauseFunc
	dials  sync.WaitGroup

	mu      sync.Mutex
	entries map[K]*poolEntry
	drained bool
	sweep   *time.Timer // runs while there are entries
}

// poolEntry is what the pool has for one key. Guarded by the pool's mu.
type poolEntry struct {
	conns    []*pooledConn
	dialing  []*poolDial
	failures int       // dials that failed in a row
	notUntil time.Time // no dial before
	lastErr  error
}

type pooledConn struct {
	conn   *Conn
	used   time.Time // when it was last asked for
	served bool      // it answered a request
}

// NewPool makes a pool. dial makes a client connection for a key; its context ends with the pool, with DialTimeout, or when nobody waits any more.
func NewPool[K comparable](dial func(ctx context.Context, key K) (*Conn, error), s PoolSettings) *Pool[K] {
	p := &Pool[K]{dial: dial, set: s.withDefaults(), entries: make(map[K]*poolEntry)}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// Open opens a stream on a pooled connection for the key, dialling one if need be; see Conn.Open.
//
// It tries another connection only if the first one certainly did not act on the request (*UnprocessedError), or if a connection that was
// there before died or fell silent (ErrSilent) without answering: until a 200 no byte of the stream is under way, so that to ask again is safe.
func (p *Pool[K]) Open(ctx context.Context, key K, authority string, h Header) (*Stream, Header, error) {
	attempts, races := 0, 0
	for {
		conn, fresh, err := p.get(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		s, header, err := conn.Open(ctx, authority, h)
		p.judge(key, conn, err)
		if err == nil || ctx.Err() != nil || !again(err, fresh) {
			return s, header, err
		}
		if errors.Is(err, ErrFull) { // others took the last places since get looked
			if races++; races == maxRaces {
				return nil, nil, err
			}
			continue
		}
		if attempts++; attempts == maxAttempts {
			return nil, nil, err
		}
		if se, reset := errors.AsType[*StreamError](err); reset && se.Remote {
			continue // one stream was refused: the connection is as good as another, and by now it may have said how many it takes
		}
		p.drop(key, conn)
	}
}

// judge notes that a connection answered, which ends the backoff of its key: that it could be dialled says little.
func (p *Pool[K]) judge(key K, conn *Conn, err error) {
	if _, refused := errors.AsType[*RefusedError](err); err != nil && !refused {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[key]
	if e == nil {
		return
	}
	for _, pc := range e.conns {
		if pc.conn == conn && !pc.served {
			pc.served = true
			e.failures, e.lastErr, e.notUntil = 0, nil, time.Time{}
		}
	}
}

// again says whether a failed open may be tried on another connection.
func again(err error, fresh bool) bool {
	var unprocessed *UnprocessedError
	if errors.As(err, &unprocessed) || errors.Is(err, ErrSilent) && !fresh {
		return true
	}
	var lost *ConnError
	return !fresh && errors.As(err, &lost)
}

// get gives the usable connection with the fewest streams, or dials. fresh says that it was dialled for this call.
func (p *Pool[K]) get(ctx context.Context, key K) (conn *Conn, fresh bool, err error) {
	for {
		p.mu.Lock()
		if p.drained {
			p.mu.Unlock()
			return nil, false, ErrDraining
		}
		e := p.entries[key]
		if e == nil {
			e = &poolEntry{}
			p.entries[key] = e
		}
		if best := p.pick(e); best != nil {
			best.used = time.Now()
			p.mu.Unlock()
			return best.conn, fresh, nil
		}
		d, lastErr := p.joinDial(key, e), e.lastErr
		p.mu.Unlock()
		if d == nil {
			return nil, false, fmt.Errorf("hbone: not dialled again so soon: %w", lastErr)
		}
		select {
		case <-d.done:
			if d.err != nil {
				return nil, false, d.err
			}
			fresh = true
		case <-ctx.Done():
			p.leaveDial(d)
			return nil, false, d.givenUp(ctx)
		}
	}
}

// pick gives the entry's usable connection with the fewest streams, or nil. mu must be held.
func (p *Pool[K]) pick(e *poolEntry) *pooledConn {
	var best *pooledConn
	least := p.set.MaxStreams
	for _, pc := range e.conns {
		if n := pc.conn.Streams(); n < least && pc.conn.Usable() {
			best, least = pc, n
		}
	}
	return best
}

// drop takes a connection out of the pool. Its streams go on; it ends with the last of them.
func (p *Pool[K]) drop(key K, conn *Conn) {
	p.mu.Lock()
	e := p.entries[key]
	found := false
	if e != nil {
		for i, pc := range e.conns {
			if pc.conn == conn {
				e.conns = append(e.conns[:i], e.conns[i+1:]...)
				found = true
				if err := conn.Err(); !pc.served && (err != nil || !conn.Usable()) && !p.drained {
					if err == nil {
						err = ErrDraining
					}
					p.failed(e, err)
				}
				break
			}
		}
		p.tidy(key, e)
	}
	p.mu.Unlock()
	if found {
		conn.Drain()
	}
}

// tidy forgets an entry that holds nothing worth keeping. mu must be held.
func (p *Pool[K]) tidy(key K, e *poolEntry) {
	remembers := e.failures > 0 && time.Now().Before(e.notUntil.Add(10*p.set.MaxBackoff))
	if len(e.conns) == 0 && len(e.dialing) == 0 && p.entries[key] == e && !remembers {
		delete(p.entries, key)
	}
}

// release drains connections that were idle for long, forgets entries whose backoff is over, and sets the timer for the next time.
func (p *Pool[K]) release() {
	var idle []*Conn
	p.mu.Lock()
	now := time.Now()
	next := p.set.IdleTimeout
	for key, e := range p.entries {
		kept := e.conns[:0]
		for _, pc := range e.conns {
			quiet, isQuiet := pc.conn.quietSince()
			if pc.used.After(quiet) {
				quiet = pc.used
			}
			left := quiet.Add(p.set.IdleTimeout).Sub(now)
			if !isQuiet {
				left = p.set.IdleTimeout
			}
			if left <= 0 {
				idle = append(idle, pc.conn)
				continue
			}
			next = min(next, left)
			kept = append(kept, pc)
		}
		clear(e.conns[len(kept):])
		e.conns = kept
		p.tidy(key, e)
	}
	switch {
	case p.drained:
	case len(p.entries) > 0:
		p.sweep.Reset(next)
	default:
		p.sweep = nil
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.Drain()
	}
}

// Drain ends the pool without hurting streams: Open fails with ErrDraining, dials under way are not used, and each connection ends with its last stream.
func (p *Pool[K]) Drain() {
	for _, c := range p.shut() {
		c.Drain()
	}
}

// shut marks the pool drained and gives its connections.
func (p *Pool[K]) shut() []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drained = true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	var conns []*Conn
	for _, e := range p.entries {
		for _, pc := range e.conns {
			conns = append(conns, pc.conn)
		}
	}
	return conns
}

// Close ends the pool and every connection in it, streams included, and waits for its goroutines. It returns nil.
func (p *Pool[K]) Close() error {
	conns := p.shut()
	p.cancel(net.ErrClosed)
	var closing sync.WaitGroup
	for _, c := range conns {
		closing.Go(func() { _ = c.Close() }) // always nil
	}
	closing.Wait()
	p.dials.Wait()
	return nil
}

// Len is how many connections the pool has.
func (p *Pool[K]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, e := range p.entries {
		n += len(e.conns)
	}
	return n
}
