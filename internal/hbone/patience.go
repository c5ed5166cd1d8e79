// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// patience is the timer of all who wait for an answer on a client's connection. One for each of them would be set and stopped for every stream, and never fire.
type patience struct {
	mu    sync.Mutex // nests in Stream.mu
	timer *time.Timer
	at    time.Time // when it fires; zero: it does not run
}

// by sees to it that the timer fires by then.
func (p *patience) by(at time.Time, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.at.IsZero() && !p.at.After(at):
		return
	case p.timer == nil:
		p.timer = time.AfterFunc(time.Until(at), f)
	default:
		p.timer.Reset(time.Until(at))
	}
	p.at = at
}

// end stops the timer, which would keep a connection that is over in memory.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
}

// onPatience is the timer.
func (c *Conn) onPatience() {
	c.patience.mu.Lock()
	c.patience.at = time.Time{}
	c.patience.mu.Unlock()
	c.mu.Lock()
	streams := slices.Collect(maps.Values(c.streams))
	c.mu.Unlock()
	now := time.Now()
	for _, s := range streams {
		s.mu.Lock()
		switch {
		case s.answer != nil || s.due.IsZero():
		case s.due.After(now):
			c.patience.by(s.due, c.onPatience)
		default:
			s.due = time.Time{}
			s.impatient = true
			s.rouse()
		}
		s.mu.Unlock()
	}
}
