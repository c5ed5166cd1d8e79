// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// plainBuffer is how much of requests is read at once, and of answers gathered before a system call, in bytes. A request whose head is larger, or does not come at once, is the library's.
const plainBuffer = 4 << 10

// plainConn is a connection whose requests so far were all of the plain kind (see plainRequest): one goroutine reads, serves and answers them, one after another. What else comes goes to net/http, with the
// connection and all that was read of it.
type plainConn struct {
	port   *Port
	nc     net.Conn
	bare   *http.Request // what all its requests have in common: the context and the client
	cancel func()        // ends that context, when nobody is there to be answered
	began  time.Time

	// Owned by the goroutine, and buffer and end by who listens to the client while somebody does (see clientWatch).
	buffer     []byte
	start, end int // what was read and not understood yet
	out        *bufio.Writer
	writeUntil time.Time // the deadline that was set last
	broken     error     // why nothing can be written any more

	leaving atomic.Bool // it is to end as soon as no request runs; set under mu

	mu        sync.Mutex // hold for all below, and to set read deadlines
	reading   bool       // between requests
	settled   chan struct{}
	readUntil time.Time // the deadline that was set last; zero: there is none
	watch     clientWatch
}

func newPlainConn(p *Port, nc net.Conn) *plainConn {
	ctx, cancel := context.WithCancel(withConnection(p.ctx))
	c := &plainConn{
		port: p, nc: nc, bare: new(http.Request).WithContext(ctx), cancel: cancel, began: time.Now(),
		buffer: make([]byte, plainBuffer), out: bufio.NewWriterSize(nc, plainBuffer), reading: true,
	}
	if at := nc.RemoteAddr(); at != nil {
		c.bare.RemoteAddr = at.String()
	}
	c.readUntil = c.began.Add(p.server.o.Limits.HeaderTime)
	_ = nc.SetReadDeadline(c.readUntil) // what cannot have one has none
	return c
}

// serve answers requests until the connection ends, or is the library's.
func (c *plainConn) serve() {
	ends := true
	defer func() {
		if ends {
			c.nc.Close()
		}
		c.settle()
		c.unwatch()
		c.cancel()
	}()
	for first := true; c.await(first); first = false {
		r, size := plainRequest(c.buffer[c.start:c.end], c.bare)
		if r == nil {
			ends = !c.handOver(first)
			return
		}
		if c.start += size; c.start == c.end {
			c.start, c.end = 0, 0
		}
		if !c.answer(r) {
			return
		}
	}
}

// await waits until something of the next request is there; false: nothing will be.
func (c *plainConn) await(first bool) bool {
	if !first && !c.ready() {
		return false
	}
	if c.start < c.end { // the client does not wait for answers
		return true
	}
	n, _ := c.nc.Read(c.buffer) // what follows an error is the same one
	c.start, c.end = 0, n
	return n > 0
}

// ready begins to wait for another request, for the time that a connection is kept. The deadline is moved only when it would come too early, and then an eighth further than it must be.
func (c *plainConn) ready() bool {
	idle := c.port.server.o.Limits.IdleTime
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving.Load() {
		return false
	}
	c.reading = true
	if now := time.Now(); c.readUntil.Sub(now) < idle {
		c.readUntil = now.Add(idle + idle/8)
		_ = c.nc.SetReadDeadline(c.readUntil)
	}
	return true
}

// settle says that what was read is in good hands: a request of it runs, the library has it, or there is none.
func (c *plainConn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if c.settled != nil {
		close(c.settled)
		c.settled = nil
	}
}

// leave has the connection end, now if it waits for a request, else after the one that runs. If one has come that does not run yet, the channel is closed when it does; nil: there is none.
func (c *plainConn) leave() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving.Swap(true) || !c.reading {
		return nil
	}
	c.readUntil = past
	_ = c.nc.SetReadDeadline(past)
	c.settled = make(chan struct{})
	return c.settled
}

// answer serves one request, and says whether another may follow.
func (c *plainConn) answer(r *http.Request) (again bool) {
	p := c.port
	p.running.begin()
	defer p.running.end()
	c.settle()
	c.attend()
	defer c.unattend()
	defer func() {
		broken := recover()
		if broken == nil {
			return
		}
		again = false
		if broken != http.ErrAbortHandler { //nolint:errorlint // it is what is panicked with
			p.server.o.Log.Error(fmt.Errorf("panic: %v", broken), "serving a request failed", "client", r.RemoteAddr, "stack", string(debug.Stack()))
		}
	}()
	w := &plainAnswer{conn: c, head: r.Method == http.MethodHead}
	p.ServeHTTP(w, r)
	return w.finish()
}

// flush sends what was written.
func (c *plainConn) flush() error { return c.note(c.out.Flush()) }

// note remembers the first failure to write, after which nobody waits for the answer.
func (c *plainConn) note(err error) error {
	if err != nil && c.broken == nil {
		c.broken = err
		c.cancel()
	}
	return c.broken
}
