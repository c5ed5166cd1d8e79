// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"fmt"
)

// Accept waits for the next request. Requests that were reset meanwhile are passed over. Once the connection has ended the error satisfies
// errors.Is(err, net.ErrClosed).
func (c *Conn) Accept(ctx context.Context) (*Request, error) {
	if c.client {
		return nil, fmt.Errorf("hbone: a client accepts no streams")
	}
	w := &waiter{cond: &c.acceptors, standby: true}
	waits := false // w may be with the seat
	defer func() {
		if waits {
			c.leave(w, true)
		}
	}()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
			c.amu.Lock()
			c.acceptors.Broadcast()
			c.amu.Unlock()
			c.kick(w)
		})
		defer stop()
	}
	c.amu.Lock()
	defer c.amu.Unlock()
	for {
		if r := c.nextRequest(); r != nil {
			c.seat.gave()
			return r, nil
		}
		select {
		case <-c.done:
			return nil, &acceptError{cause: c.Err()}
		case <-ctx.Done():
			return nil, ctx.Err()
		default:
		}
		// Who left the seat without a request left it to a stream's reader, who is on its way: it does not sit down before it is called.
		take := c.take
		if waits || c.seat.stepsAside() {
			take = c.seat.standBy
		}
		waits = true
		if take(w) {
			c.amu.Unlock()
			c.lead(w, nil)
			c.amu.Lock()
			continue
		}
		c.accepting++
		c.acceptors.Wait()
		c.accepting--
	}
}

// nextRequest takes the oldest request that is not over, or gives nil. amu must be held; it is let go meanwhile.
func (c *Conn) nextRequest() *Request {
	for len(c.requests) > 0 {
		r := c.requests[0]
		c.requests[0] = nil
		c.requests = c.requests[1:]
		if !r.over.Load() {
			return r
		}
		c.amu.Unlock()
		r.drop()
		c.amu.Lock()
	}
	return nil
}

// offer puts a request where Accept finds it. Only the holder of the seat calls it.
func (c *Conn) offer(r *Request) {
	c.amu.Lock()
	defer c.amu.Unlock()
	c.requests = append(c.requests, r)
	in := &c.in
	in.woken++
	if c.accepting > 0 {
		c.acceptors.Signal()
	}
	if in.accepts || in.stream == nil && c.accepting > 0 {
		in.sated, in.back = true, true
	}
}

// backlog is how many requests wait for Accept.
func (c *Conn) backlog() int {
	c.amu.Lock()
	defer c.amu.Unlock()
	return len(c.requests)
}

// dropRequests frees the requests that nobody will take, once the connection is over.
func (c *Conn) dropRequests() {
	c.amu.Lock()
	requests := c.requests
	c.requests = nil
	c.amu.Unlock()
	for _, r := range requests {
		r.drop()
	}
}

// drop forgets a request that is over.
func (r *Request) drop() {
	r.answered.Store(true)
	_ = r.stream.Close() // always nil
}
