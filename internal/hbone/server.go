// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
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
	answered atomic.Bool
	over     atomic.Bool // reset, or the connection ended, before the answer

	mu     sync.Mutex // guards the context, which is made when somebody asks for it
	ctx    context.Context
	stop   context.CancelCauseFunc
	ending error
}

// NewServer makes the server's end of a connection over nc, which it owns from now on.
func NewServer(nc net.Conn, s Settings) *Conn {
	c := newConn(nc, s, false)
	c.start()
	return c
}

// Conn gives the connection on which the request came.
func (r *Request) Conn() *Conn { return r.stream.conn }

// Context is cancelled when the client resets the stream or the connection ends before the request was answered. After the answer it is left alone.
func (r *Request) Context() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		r.ctx, r.stop = context.WithCancelCause(context.Background())
		if r.over.Load() {
			r.stop(r.ending)
		}
	}
	return r.ctx
}

// cancel tells whoever works on the request that it is over. After the answer it does nothing.
func (r *Request) cancel(err error) {
	if r.answered.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ending = err
	r.over.Store(true)
	if r.stop != nil {
		r.stop(err)
	}
}

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
	c.wmu.Lock()
	limit := min(c.set.MaxHeaderBytes, c.peerHeader, maxHeaderSent)
	c.wmu.Unlock()
	if err := h.check(limit, answerOverhead); err != nil {
		return err
	}
	if r.answered.Swap(true) {
		return ErrAnswered
	}
	c.wmu.Lock()
	err := s.werr
	unread := c.replies > int(c.set.MaxStreams) && c.pending() > maxUnreadAnswers
	if err == nil {
		c.blockOut.b = c.blockOut.b[:0]
		c.field(":status", strconv.Itoa(status))
		c.queueHeaders(s.id, h, end)
		c.replies++
		if end {
			s.endWrites(errWriteClosed)
		}
	}
	c.wmu.Unlock()
	if err != nil {
		_ = s.Close() // always nil
		return fmt.Errorf("hbone: answer %d: %w", status, err)
	}
	if unread {
		// A client that asks for no more streams than it may has at most so many answers under way. This one does not read them, or does not wait for them.
		c.fail(&ConnError{
			Code: uint32(http2.ErrCodeEnhanceYourCalm), Reason: "answers are not read",
			Err: &BudgetError{EventUnreadAnswers}, event: EventUnreadAnswers,
		}, false)
	}
	if end {
		s.finish(endSend)
	}
	c.push()
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
		return c.straggler()
	case id <= c.opened:
		c.mu.Unlock()
		return c.lateHeaders(id)
	}
	c.opened, c.judging = id, true
	full := len(c.streams) >= int(c.set.MaxStreams) || c.backlog() >= int(c.set.MaxStreams)
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
	case list.method != "CONNECT" && !c.set.anyMethod:
		return c.refuse(id, 400, end)
	}
	if _, err := ParseAuthority(list.authority); err != nil {
		return c.refuse(id, 400, end)
	}
	r := &Request{Authority: list.authority, Header: list.fields}
	s := newStream(c, id)
	s.request = r
	r.stream = s
	if end {
		if err := c.earlyEnd(s); err != nil {
			return err
		}
		s.rerr = io.EOF
		s.ends.Store(endRecv)
	}
	if !c.enroll(s) {
		return c.straggler()
	}
	c.offer(r)
	return nil
}

// enroll puts a new stream on the table, unless the connection has ended, or a drain's last word was said while the request was judged.
func (c *Conn) enroll(s *Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judging = false
	if c.err != nil || c.drain == drainSaid {
		return false
	}
	c.wmu.Lock()
	s.outflow = c.peerWindow
	c.wmu.Unlock()
	c.streams[s.id] = s
	return true
}

// straggler is a request behind the last one that is served: the GOAWAY told the client so.
func (c *Conn) straggler() error {
	if !c.in.control.spend(c.set.Control) {
		return calm(EventControlBudget, "too many requests after GOAWAY")
	}
	c.wmu.Lock()
	c.expectStrays() // it may have sent that behind them
	c.wmu.Unlock()
	return nil
}

// http2StatusHeaderTooLarge is 431 Request Header Fields Too Large (RFC 6585 §5).
const http2StatusHeaderTooLarge = 431

// check says what makes the list no request, or "": RFC 9113 §8.3.1 and, for CONNECT, §8.5. The authority's form is judged with an answer, not with a reset.
func (l *headerList) check() string {
	switch {
	case l.pseudo&hasStatus != 0:
		return "unknown pseudo-header"
	case l.method == "":
		return "request without a method"
	case l.method == "CONNECT" && l.pseudo&(hasScheme|hasPath) != 0:
		return "CONNECT with a scheme or a path"
	case l.method != "CONNECT" && (l.scheme == "" || l.path == ""):
		return "request without a scheme or a path"
	}
	return ""
}

// refuse answers a request that never becomes a stream.
func (c *Conn) refuse(id uint32, status int, end bool) error {
	c.set.Observe(EventBadRequest)
	if !c.in.resets.spend(c.set.Resets) {
		return calm(EventResetBudget, "too many bad requests")
	}
	return c.answerFrame(func(f *http2.Framer) error {
		c.blockOut.b = c.blockOut.b[:0]
		c.field(":status", strconv.Itoa(status))
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.blockOut.b, EndHeaders: true, EndStream: true})
		if err != nil || end {
			return err
		}
		c.forget(id)
		return f.WriteRSTStream(id, http2.ErrCodeNo)
	})
}

// onTrailers ends the client's direction: HBONE has no use for trailers, but they are legal.
func (c *Conn) onTrailers(s *Stream, list headerList, end bool) error {
	switch {
	case s.ends.Load()&endRecv != 0:
		c.wmu.Lock()
		closed := s.werr != nil // our END_STREAM or RST_STREAM is queued, and whoever did that is about to take the stream off the table
		c.wmu.Unlock()
		if closed {
			return c.lateHeaders(s.id)
		}
		return c.resetPeer(s.id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM")
	case list.malformed != "":
		return c.resetPeer(s.id, http2.ErrCodeProtocol, list.malformed)
	case !end || list.pseudo != 0:
		return c.resetPeer(s.id, http2.ErrCodeProtocol, "second HEADERS on a tunnel")
	}
	if err := c.earlyEnd(s); err != nil {
		return err
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
		if !c.in.control.spend(c.set.Control) {
			return calm(EventControlBudget, "too many frames on closed streams")
		}
		return nil
	}
	return &breach{code: http2.ErrCodeStreamClosed, reason: "HEADERS on a closed stream", event: EventConnProtocol}
}
