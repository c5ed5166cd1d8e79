// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answer is what became of a CONNECT.
type answer struct {
	header Header
	err    error
}

// NewClient makes the client's end of a connection over nc, which it owns from now on, also on error. It does not wait for the peer:
// streams may be opened at once.
func NewClient(nc net.Conn, s Settings) (*Conn, error) {
	c := newConn(nc, s, true)
	c.start()
	return c, nil
}

// Open asks the peer for a tunnel to authority (host:port, see ParseAuthority) and returns it once the peer has answered 200, with the header of
// that answer. Any other status gives a *RefusedError. If the request may be sent again elsewhere, the error is an *UnprocessedError.
//
// ctx bounds the wait only; when it ends the stream is reset with CANCEL, and the error wraps ErrUnanswered if the peer is known to live. h must be lower case and free of what HTTP/2 forbids.
func (c *Conn) Open(ctx context.Context, authority string, h Header) (*Stream, Header, error) {
	if _, err := ParseAuthority(authority); err != nil {
		return nil, nil, fmt.Errorf("hbone: open: %w", err)
	}
	if err := h.check(c.set.MaxHeaderBytes, requestOverhead+len(authority)); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("hbone: open %s: %w", authority, context.Cause(ctx))
	}
	mark := c.ping.signs.Load()
	s, err := c.request(authority, h)
	if err != nil {
		return nil, nil, err
	}
	c.push()
	header, err := s.awaitAnswer(ctx, mark)
	if err != nil {
		if errors.Is(err, errNoAnswer) {
			_ = s.Reset(uint32(http2.ErrCodeCancel)) // always nil
			return nil, nil, fmt.Errorf("hbone: open %s: %w", authority, err)
		}
		_ = s.Close() // always nil; frees what came early
		return nil, nil, err
	}
	return s, header, nil
}

// errNoAnswer wraps why Open no longer waits.
var errNoAnswer = errors.New("no answer")

// awaitAnswer waits for the answer. mark is how many signs of life had come before the request; if it stays at that, the peer is probed.
func (s *Stream) awaitAnswer(ctx context.Context, mark uint32) (Header, error) {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rouse()
		})
		defer stop()
	}
	defer s.endAwait()
	first, probed := mark, false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.askAfter(s.firstProbe(ctx))
	for {
		switch {
		case s.answer != nil:
			a := *s.answer
			return a.header, a.err
		case ctx.Err() != nil && (s.conn.ping.signs.Load() != mark || mark != first && !probed):
			return nil, fmt.Errorf("%w: %w: %w", errNoAnswer, ErrUnanswered, context.Cause(ctx))
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", errNoAnswer, context.Cause(ctx))
		case s.impatient:
			s.impatient = false
			switch signs := s.conn.ping.signs.Load(); {
			case signs != mark:
				// It lives, and its own dial takes its time. Ask anew, for it may die while we wait.
				mark, probed = signs, false
				s.askAfter(s.conn.set.ProbeAfter)
			case probed:
				return nil, fmt.Errorf("%w: %w", errNoAnswer, ErrSilent)
			default:
				probed = true
				s.askAfter(s.conn.set.ProbeTimeout)
				s.mu.Unlock()
				s.conn.Ask()
				s.mu.Lock()
			}
		default:
			s.await()
		}
	}
}

// firstProbe is after how long a silent peer is asked for the first time: whoever has little time asks sooner, or he could not tell whether it lives.
func (s *Stream) firstProbe(ctx context.Context) time.Duration {
	after := s.conn.set.ProbeAfter
	if deadline, ok := ctx.Deadline(); ok {
		after = min(after, time.Until(deadline)/2)
	}
	return after
}

// askAfter has awaitAnswer look at the peer after d. mu must be held.
func (s *Stream) askAfter(d time.Duration) {
	s.due = time.Now().Add(d)
	s.conn.patience.by(s.due, s.conn.onPatience)
}

// requestOverhead is what the pseudo-headers add to a header list besides the authority, in bytes: ":method" "CONNECT" ":authority".
const requestOverhead = 7 + 7 + fieldOverhead + 10 + fieldOverhead

// request makes the stream and queues its HEADERS in one step, because ids must go up on the wire.
func (c *Conn) request(authority string, h Header) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.openable(); err != nil {
		return nil, &UnprocessedError{Err: err}
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.pending() > maxControlQueue {
		return nil, &UnprocessedError{Err: ErrFull}
	}
	if err := h.check(min(c.peerHeader, maxHeaderSent), requestOverhead+len(authority)); err != nil {
		return nil, err
	}
	id := c.opened + 1
	if c.opened > 0 {
		id = c.opened + 2
	}
	c.opened = id
	if id+2 > maxWindow {
		c.left = true
	}
	s := newStream(c, id)
	s.outflow = c.peerWindow
	c.streams[id] = s
	c.blockOut.b = c.blockOut.b[:0]
	c.field(":method", "CONNECT")
	c.field(":authority", authority)
	c.queueHeaders(id, h, false)
	return s, nil
}

// openable says why no stream can be opened now, or nil. mu must be held.
func (c *Conn) openable() error {
	switch {
	case c.err != nil:
		return c.err
	case !c.client:
		return fmt.Errorf("hbone: a server opens no streams")
	case c.left:
		return ErrDraining
	case len(c.streams) >= int(min(c.peerMax, c.set.MaxStreams)):
		return ErrFull
	}
	return nil
}

// field encodes one header field into the block. wmu must be held, and the block must be queued under the same hold.
func (c *Conn) field(name, value string) {
	// The buffer below takes everything, so there is no error to see.
	_ = c.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
}

// queueHeaders adds h to the block and queues it as one HEADERS frame: check has kept it below the smallest MAX_FRAME_SIZE there is. wmu must be held.
func (c *Conn) queueHeaders(id uint32, h Header, end bool) {
	for _, f := range h {
		c.field(f.Name, f.Value)
	}
	c.encode(func(fr *http2.Framer) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.blockOut.b, EndHeaders: true, EndStream: end})
	})
}

// reply hands the answer to Open; only the first one counts. mu must be held.
func (s *Stream) reply(a answer) {
	if s.answer == nil {
		s.answer = &a
	}
}

// replied is reply by the holder of the seat.
func (s *Stream) replied(a answer) {
	s.mu.Lock()
	s.reply(a)
	s.conn.roused(s)
	s.mu.Unlock()
}

// onAnswer acts on a header list that a server sent.
func (c *Conn) onAnswer(id uint32, list headerList, end bool) error {
	s := c.lookup(id)
	if s == nil {
		if c.isIdle(id) {
			return protocol("HEADERS on a stream that was never opened")
		}
		return c.late(id, "HEADERS")
	}
	if s.ends.Load()&endRecv != 0 {
		return c.resetPeer(id, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM")
	}
	if list.tooLarge {
		return c.resetPeer(id, http2.ErrCodeProtocol, "header list too large")
	}
	if list.malformed != "" {
		return c.resetPeer(id, http2.ErrCodeProtocol, list.malformed)
	}
	if s.accepted {
		// Trailers: HBONE has no use for them, but they end the stream.
		if !end || list.pseudo != 0 {
			return c.resetPeer(id, http2.ErrCodeProtocol, "second HEADERS on a tunnel")
		}
		s.end()
		return nil
	}
	status, err := strconv.Atoi(list.status)
	if err != nil || list.pseudo != hasStatus || len(list.status) != 3 || status < 100 {
		return c.resetPeer(id, http2.ErrCodeProtocol, "answer without a status")
	}
	switch {
	case status < 200:
		if end || !c.in.control.spend(c.set.Control) {
			return c.resetPeer(id, http2.ErrCodeProtocol, "bad interim answer")
		}
	case status == 200:
		s.accepted = true
		s.replied(answer{header: list.fields})
		if end {
			s.end()
		}
	default:
		s.accepted = true
		if end {
			s.end()
		}
		s.replied(answer{err: &RefusedError{Status: status, Header: list.fields}})
	}
	return nil
}
