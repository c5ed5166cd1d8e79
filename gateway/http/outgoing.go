// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// errEndpointLeft means that an endpoint was gone before it had answered.
var errEndpointLeft = errors.New("the endpoint ended before it had answered")

// outgoing is a request's body that one of the library's Transports sends to an endpoint. When that is gone, they wait for who reads the body before they say so, and that waits for the client: so it is
// ended, if there is no answer. A connection in HTTP/1.1 says that it is over. In HTTP/2 the Transport closes the body then, but also when it has an answer, with which it does not wait; it is not who reads that is ended there,
// but the Transport's wait for it, as the endpoint may not have looked at the request: what the client sends next is for who sends it again then (see replay.carry).
type outgoing struct {
	io.ReadCloser
	giveUp func()                // ends who reads, not the one who calls; in HTTP/2, the wait for that
	answer io.ReadCloser         // see answering
	trace  httptrace.ClientTrace // of its request

	mu      sync.Mutex // hold for all below
	reading bool
	gone    bool        // the endpoint is
	settled bool        // it has answered, or nobody asks
	closed  bool        // nobody wants the rest: the Transport reads all the same if it is closed while a piece is written
	by      *endingConn // that it goes by last; nil: none, or one that does not tell
}

// Read gives what the client sent.
func (o *outgoing) Read(p []byte) (int, error) {
	if !o.enter() {
		return 0, errEndpointLeft
	}
	n, err := o.ReadCloser.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reading = false; o.gone {
		return 0, errEndpointLeft
	}
	return n, err
}

func (o *outgoing) enter() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reading = !o.gone && !o.closed
	return o.reading
}

// lost says that the endpoint is gone, which counts before it has answered.
func (o *outgoing) lost() {
	o.mu.Lock()
	defer o.mu.Unlock() // until who reads is ended: the next attempt, which is not to be, begins after settle
	o.gone = o.gone || !o.settled
	if !o.settled && o.reading {
		o.giveUp()
	}
}

// settle says that the endpoint has answered, or that nothing is waited for any more.
func (o *outgoing) settle() {
	o.mu.Lock()
	o.settled = true
	by := o.by
	o.by = nil
	o.mu.Unlock()
	if by != nil {
		by.forget(o)
	}
}

// Close says that nobody wants the rest.
func (o *outgoing) Close() error {
	o.mu.Lock()
	o.closed = true
	doubtful := o.reading && !o.settled
	o.mu.Unlock()
	if doubtful {
		time.AfterFunc(answerAfterRefusal, o.lost)
	}
	return o.ReadCloser.Close()
}

// answering is the body of the answer to an outgoing in HTTP/2. The Transport has who closes it wait for who reads the request's body, and that waits for the client, who would wait for the end of the answer.
type answering outgoing

// answerOf makes a body one.
func (o *outgoing) answerOf(body io.ReadCloser) io.ReadCloser {
	o.answer = body
	return (*answering)(o)
}

// Read gives what came.
func (a *answering) Read(p []byte) (int, error) { return a.answer.Read(p) }

// Close says that nobody wants the rest of either body. If somebody reads the request's, the Transport is done when that is ended, with the request or for the client's silence after it.
func (a *answering) Close() error {
	a.mu.Lock()
	a.closed = true
	reading := a.reading
	a.mu.Unlock()
	if reading {
		go a.answer.Close()
		return nil
	}
	return a.answer.Close()
}

// goes says by which connection the body does.
func (o *outgoing) goes(by httptrace.GotConnInfo) {
	conn, ok := by.Conn.(*endingConn)
	if !ok {
		return
	}
	o.mu.Lock()
	before := o.by
	o.by = conn
	o.mu.Unlock()
	if before != nil { // it was over before it could be used
		before.forget(o)
	}
	conn.watch(o)
}

// endingConn is a connection to an endpoint that tells when nothing more comes of it.
type endingConn struct {
	net.Conn
	tape atomic.Pointer[tape] // of the answers to the request that has it; nil: nobody wants any

	mu    sync.Mutex // hold for all below
	ended bool
	of    *outgoing // that is told; nil: nobody
}

// Read gives what came.
func (c *endingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if tape := c.tape.Load(); tape != nil {
		tape.add(p[:n])
	}
	if err != nil {
		c.mu.Lock()
		c.ended = true
		of := c.of
		c.mu.Unlock()
		if of != nil {
			of.lost()
		}
	}
	return n, err
}

// CloseWrite ends what is sent, of a connection that can: upgraded ones are told so.
func (c *endingConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// watch has the end be told to another one from now on: a connection in HTTP/1.1 has one request at a time.
func (c *endingConn) watch(of *outgoing) {
	c.mu.Lock()
	c.of = of
	ended := c.ended
	c.mu.Unlock()
	if ended {
		of.lost()
	}
}

// forget has the end be told to nobody, unless the connection is another one's by now: it is kept before who used it knows of its answer.
func (c *endingConn) forget(of *outgoing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == of {
		c.of = nil
	}
}
