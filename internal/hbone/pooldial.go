// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// firstBackoff is the bound of the first wait, see PoolSettings.MaxBackoff.
const firstBackoff = 50 * time.Millisecond

// poolDial is one dial and those who wait for it.
type poolDial struct {
	done    chan struct{}
	waiting int // all who ever joined; bounds whom one connection can serve
	present int // those still there; at 0 the dial is given up
	cancel  context.CancelFunc
	err     error // valid once done is closed
	at      atomic.Pointer[error]
}

// dialKey is where the context of a dial has what it is at.
type dialKey struct{}

// Dialling notes what a dial of a Pool is at. Whoever waits for it until his time is over gets an error that wraps at: otherwise nobody could tell who of those on the way did not
// answer. Who is told to stop waits for nobody, and says nothing of them. ctx is the one that the dial was given; with another one nothing is noted.
func Dialling(ctx context.Context, at error) {
	if d, ok := ctx.Value(dialKey{}).(*poolDial); ok {
		d.at.Store(&at)
	}
}

// givenUp is the error of one whose ctx has ended.
func (d *poolDial) givenUp(ctx context.Context) error {
	why := context.Cause(ctx)
	if at := d.at.Load(); at != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("hbone: dial: %w: %w", *at, why)
	}
	return fmt.Errorf("hbone: dial: %w", why)
}

// joinDial joins a dial under way that has room, or starts one. nil: the key is backing off. mu must be held.
func (p *Pool[K]) joinDial(key K, e *poolEntry) *poolDial {
	for _, d := range e.dialing {
		if d.waiting < p.set.MaxStreams && d.present > 0 {
			d.waiting++
			d.present++
			return d
		}
	}
	if time.Now().Before(e.notUntil) {
		return nil
	}
	d := &poolDial{done: make(chan struct{}), waiting: 1, present: 1}
	ctx, cancel := context.WithTimeout(context.WithValue(p.ctx, dialKey{}, d), p.set.DialTimeout)
	d.cancel = cancel
	e.dialing = append(e.dialing, d)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.set.IdleTimeout, p.release)
	}
	p.dials.Add(1)
	go p.runDial(ctx, key, e, d)
	return d
}

// leaveDial is for one who no longer waits.
func (p *Pool[K]) leaveDial(d *poolDial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.present--
	if d.present == 0 {
		d.cancel()
	}
}

// runDial dials once and tells all who wait.
func (p *Pool[K]) runDial(ctx context.Context, key K, e *poolEntry, d *poolDial) {
	defer p.dials.Done()
	defer d.cancel()
	conn, err := p.dial(ctx, key)
	if err != nil && p.ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(p.ctx), err)
	}

	p.mu.Lock()
	for i, x := range e.dialing {
		if x == d {
			e.dialing = append(e.dialing[:i], e.dialing[i+1:]...)
			break
		}
	}
	refused := conn != nil && p.drained
	switch {
	case err == nil && !refused:
		e.conns = append(e.conns, &pooledConn{conn: conn, used: time.Now()})
		p.entries[key] = e
	case refused:
		err = ErrDraining
	case d.present > 0: // a dial that was given up says nothing about the peer
		p.failed(e, err)
	}
	p.tidy(key, e)
	p.mu.Unlock()

	d.err = err
	close(d.done)
	switch {
	case refused:
		_ = conn.Close() // always nil
	case err == nil:
		conn.onDone(func() { p.drop(key, conn) })
	}
}

// failed counts a dial that failed, or whose connection ended before it answered anything. mu must be held.
func (p *Pool[K]) failed(e *poolEntry, err error) {
	e.failures++
	e.lastErr = err
	e.notUntil = time.Now().Add(p.backoff(e.failures))
}

// backoff is how long to wait after so many failures in a row: nothing after the first, since one lost packet or one restarting peer should cost no more.
func (p *Pool[K]) backoff(failures int) time.Duration {
	if failures < 2 {
		return 0
	}
	d := min(firstBackoff<<min(failures-2, 20), p.set.MaxBackoff)
	return d - time.Duration(rand.Int64N(int64(d)/2+1))
}
