// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// plainConns are a port's connections that the library does not have.
type plainConns struct {
	wait sync.WaitGroup
	mu   sync.Mutex
	of   map[*plainConn]struct{}
	over bool // no more are taken
}

// serve serves a connection of a port without TLS.
func (p *plainConns) serve(port *Port, nc net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		nc.Close()
		return
	}
	c := newPlainConn(port, nc)
	if p.of == nil {
		p.of = map[*plainConn]struct{}{}
	}
	p.of[c] = struct{}{}
	port.leaving.state(nc, http.StateNew)
	p.wait.Go(func() {
		c.serve()
		port.leaving.state(nc, http.StateClosed) // if it was handed over, the library has said that it is new
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.of, c)
	})
}

// leave takes no more connections, has each of these end as soon as no request of it runs, and waits until what has come of requests runs, or is the library's, or ctx ends.
func (p *plainConns) leave(ctx context.Context) {
	p.mu.Lock()
	p.over = true
	var unsettled []<-chan struct{}
	for c := range p.of {
		if settled := c.leave(); settled != nil {
			unsettled = append(unsettled, settled)
		}
	}
	p.mu.Unlock()
	for _, settled := range unsettled {
		select {
		case <-settled:
		case <-ctx.Done():
			return
		}
	}
}

// close ends those that are left.
func (p *plainConns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for c := range p.of {
		c.nc.Close()
	}
}

// handOver gives the connection to the library, with what was read and not served, and says whether that has it now.
func (c *plainConn) handOver(first bool) bool {
	h := &handed{Conn: c.nc, rest: c.buffer[c.start:c.end], taken: make(chan struct{})}
	if first {
		h.headBy = c.began.Add(c.port.server.o.Limits.HeaderTime)
	}
	if !c.writeUntil.IsZero() {
		_ = c.nc.SetWriteDeadline(time.Time{}) // it was an answer's
	}
	if taken, err := c.port.handed.Enter(context.Background(), h); !taken || err != nil {
		return false // nobody serves any more
	}
	<-h.taken
	return true
}

// handed is a connection that the library gets after something of it was read.
type handed struct {
	net.Conn
	rest   []byte
	taken  chan struct{} // closed when the library knows of it
	headBy time.Time     // when the head that has begun must have come; zero: the library decides
	begun  atomic.Bool   // the library has set a deadline
}

// Read gives what was read first.
func (h *handed) Read(p []byte) (int, error) {
	if len(h.rest) > 0 {
		n := copy(p, h.rest)
		h.rest = h.rest[n:]
		return n, nil
	}
	return h.Conn.Read(p)
}

// SetReadDeadline bounds the time for what is read next. The first that the library sets is for a head whose time has begun already.
func (h *handed) SetReadDeadline(t time.Time) error {
	if !h.begun.Swap(true) && !h.headBy.IsZero() && t.After(h.headBy) {
		t = h.headBy
	}
	return h.Conn.SetReadDeadline(t)
}
