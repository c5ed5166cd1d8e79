// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// Request is a peer's wish for a tunnel. It must be answered, by Accept or Reject.
type Request struct {
	// Authority is the target as the peer wrote it, host:port; ParseAuthority reads it without error.
	Authority string
	// Header is what came with the request, without pseudo-headers.
	Header Header

	stream   *Stream
	ctx      context.Context
	cancel   context.CancelCauseFunc
	answered atomic.Bool
}

// NewServer makes the server's end of a connection over nc, which it owns from now on.
func NewServer(nc net.Conn, s Settings) *Conn {
	c := newConn(nc, s, false)
	c.requests = make(chan *Request, c.set.MaxStreams)
	c.start()
	return c
}

// Accept waits for the next request. Requests that were reset meanwhile are passed over. Once the connection has ended the error satisfies
// errors.Is(err, net.ErrClosed).
func (c *Conn) Accept(ctx context.Context) (*Request, error) {
	if c.client {
		return nil, fmt.Errorf("hbone: a client accepts no streams")
	}
	for {
		select {
		case r := <-c.requests:
			if r.ctx.Err() != nil {
				r.drop()
				continue
			}
			return r, nil
		case <-c.done:
			return nil, &acceptError{cause: c.Err()}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// dropRequests frees the requests that nobody will take, once the connection is over.
func (c *Conn) dropRequests() {
	for {
		select {
		case r := <-c.requests:
			r.drop()
		default:
			return
		}
	}
}

// drop forgets a request that is over.
func (r *Request) drop() {
	r.answered.Store(true)
	_ = r.stream.Close() // always nil
}

// Conn gives the connection on which the request came.
func (r *Request) Conn() *Conn { return r.stream.conn }

// Context is cancelled when the client resets the stream or the connection ends before the request was answered. After the answer it is left alone.
func (r *Request) Context() context.Context { return r.ctx }

// Accept answers 200 with h, and the tunnel is open. By then the next hop must have been reached: there is no way back from a 200.
func (r *Request) Accept(h Header) (*Stream, error) {
	s := r.stream
	if err := r.answer(200, h, false); err != nil {
		return nil, err
	}
	return s, nil
}

// Reject answers with another status (400 to 599) and ends the stream.
func (r *Request) Reject(status int, h Header) error {
	if status < 300 || status > 599 {
		return fmt.Errorf("hbone: cannot reject with status %d", status)
	}
	err := r.answer(status, h, true)
	if err == nil {
		_ = r.stream.Close() // always nil; asks a client that still sends to stop
	}
	return err
}

func (r *Request) answer(status int, h Header, end bool) error {
	s, c := r.stream, r.stream.conn
	if err := h.check(c.set.MaxHeaderBytes, answerOverhead); err != nil {
		return err
	}
	if r.answered.Swap(true) {
		return ErrAnswered
	}
	c.wmu.Lock()
	err := s.werr
	if err == nil {
		c.blockOut.b = c.blockOut.b[:0]
		c.field(":status", strconv.Itoa(status))
		c.queueHeaders(s.id, h, end)
		if end {
			s.endWrites(errWriteClosed)
		}
	}
	c.wmu.Unlock()
	if err != nil {
		_ = s.Close() // always nil
		return fmt.Errorf("hbone: answer %d: %w", status, err)
	}
	if end {
		s.finish(endSend)
	}
	return nil
}

// answerOverhead is what ":status" adds to a header list, in bytes.
const answerOverhead = 7 + 3 + fieldOverhead

// onRequest acts on a header list that a client sent.
func (c *Conn) onRequest(id uint32, list headerList, end bool) error {
	if id%2 == 0 {
		return protocol("client opened a stream with an even id")
	}
	if s := c.lookup(id); s != nil {
		return c.onTrailers(s, list, end)
	}
	c.mu.Lock()
	switch {
	case c.err != nil:
		c.mu.Unlock()
		return nil //nolint:nilerr // the connection is over and told everybody why
	case c.drain == drainSaid && id > c.lastTaken:
		c.mu.Unlock()
		return nil // the GOAWAY told the client that it is not served
	case id <= c.opened:
		c.mu.Unlock()
		return c.lateHeaders(id)
	}
	c.opened = id
	full := len(c.streams) >= int(c.set.MaxStreams) || len(c.requests) == cap(c.requests)
	c.mu.Unlock()

	switch {
	case list.malformed != "":
		return c.resetPeer(id, http2.ErrCodeProtocol, list.malformed)
	case !list.tooLarge && list.check() != "":
		return c.resetPeer(id, http2.ErrCodeProtocol, list.check())
	case full:
		return c.resetPeer(id, http2.ErrCodeRefusedStream, "too many streams")
	case list.tooLarge:
		return c.refuse(id, http2StatusHeaderTooLarge, end)
	case list.pseudo[":method"] != "CONNECT":
		return c.refuse(id, 400, end)
	}
	authority := list.pseudo[":authority"]
	if _, err := ParseAuthority(authority); err != nil {
		return c.refuse(id, 400, end)
	}

	r := &Request{Authority: authority, Header: list.fields}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	s := newStream(c, id)
	s.request = r
	r.stream = s
	if end {
		s.rerr = io.EOF
		s.ends.Store(endRecv)
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil //nolint:nilerr // the connection is over and told everybody why
	}
	c.wmu.Lock()
	s.outflow = c.peerWindow
	c.wmu.Unlock()
	c.streams[id] = s
	c.watchIdle()
	c.mu.Unlock()
	c.requests <- r // has room: only this goroutine fills it, and it looked
	return nil
}

// http2StatusHeaderTooLarge is 431 Request Header Fields Too Large (RFC 6585 §5).
const http2StatusHeaderTooLarge = 431

// check says what makes the list no request, or "": RFC 9113 §8.3.1 and, for CONNECT, §8.5.
func (l *headerList) check() string {
	method, authority := l.pseudo[":method"], l.pseudo[":authority"]
	scheme, hasScheme := l.pseudo[":scheme"]
	path, hasPath := l.pseudo[":path"]
	known := 0
	for _, name := range [...]string{":method", ":authority", ":scheme", ":path"} {
		if _, ok := l.pseudo[name]; ok {
			known++
		}
	}
	switch {
	case known != len(l.pseudo):
		return "unknown pseudo-header"
	case method == "":
		return "request without a method"
	case method == "CONNECT" && (hasScheme || hasPath):
		return "CONNECT with a scheme or a path"
	case method != "CONNECT" && (scheme == "" || path == ""):
		return "request without a scheme or a path"
	}
	_ = authority // its form is judged with an answer, not with a reset
	return ""
}

// refuse answers a request that never becomes a stream.
func (c *Conn) refuse(id uint32, status int, end bool) error {
	c.set.Observe(EventBadRequest)
	if !c.resets.spend(c.set.Resets) {
		return calm(EventResetBudget, "too many bad requests")
	}
	return c.answerFrame(func(f *http2.Framer) error {
		c.blockOut.b = c.blockOut.b[:0]
		c.field(":status", strconv.Itoa(status))
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.blockOut.b, EndHeaders: true, EndStream: true})
		if err != nil || end {
			return err
		}
		c.forgotten.add(id)
		return f.WriteRSTStream(id, http2.ErrCodeNo)
	})
}

// onTrailers ends the client's direction: HBONE has no use for trailers, but they are legal.
func (c *Conn) onTrailers(s *Stream, list headerList, end bool) error {
	switch {
	case s.ends.Load()&endRecv != 0:
		return c.resetPeer(s.id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM")
	case list.malformed != "":
		return c.resetPeer(s.id, http2.ErrCodeProtocol, list.malformed)
	case !end || len(list.pseudo) > 0:
		return c.resetPeer(s.id, http2.ErrCodeProtocol, "second HEADERS on a tunnel")
	}
	s.end()
	return nil
}

// lateHeaders handles HEADERS with an id that was used up: trailers that were on their way when we reset, else a mistake of the connection.
func (c *Conn) lateHeaders(id uint32) error {
	c.wmu.Lock()
	known := c.forgotten.has(id)
	c.wmu.Unlock()
	if known {
		if !c.control.spend(c.set.Control) {
			return calm(EventControlBudget, "too many frames on closed streams")
		}
		return nil
	}
	return &breach{code: http2.ErrCodeStreamClosed, reason: "HEADERS on a closed stream", event: EventConnProtocol}
}
