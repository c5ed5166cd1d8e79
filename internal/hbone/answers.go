// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"time"
)

// answerPoll is how often Answers looks: it is asked when something is wrong, and a hundredth of a second more does not matter then.
const answerPoll = 10 * time.Millisecond

// Answers sends a PING and says whether anything was heard of the peer before ctx ended, an answer or any other frame.
func (c *Conn) Answers(ctx context.Context) bool {
	mark := c.ping.signs.Load()
	c.Ask()
	look := time.NewTicker(answerPoll)
	defer look.Stop()
	for {
		select {
		case <-c.done:
			return false
		case <-ctx.Done():
			return c.ping.signs.Load() != mark
		case <-look.C:
			if c.ping.signs.Load() != mark {
				return true
			}
		}
	}
}

// Silent says that the connection has ended, or that the peer was asked for a sign of life at least d ago, by Ask, by Answers or by an Open that waits, and nothing was heard of it since.
func (c *Conn) Silent(d time.Duration) bool {
	if c.Err() != nil {
		return true
	}
	asked := c.ping.asked.Load()
	return asked != nil && asked.signs == c.ping.signs.Load() && time.Since(asked.at) >= d
}

// Unheard says why who opens a stream for a key has to wait, as far as that is known without asking: what a dial is at, see Dialling, or ErrSilent if there is no connection whose peer is not
// Silent, by d. It is nil if nothing is known.
func (p *Pool[K]) Unheard(key K, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[key]
	if e == nil {
		return nil
	}
	for _, dial := range e.dialing {
		if at := dial.at.Load(); at != nil {
			return *at
		}
	}
	for _, pc := range e.conns {
		if !pc.conn.Silent(d) {
			return nil
		}
	}
	if len(e.conns) == 0 {
		return nil
	}
	return ErrSilent
}
