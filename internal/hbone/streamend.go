// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// This file ends streams: from here, by the peer, and with the connection.

const (
	endRecv  = 1 << iota // the peer's END_STREAM came
	endSend              // our END_STREAM is queued
	endReset             // RST_STREAM from either side, or the connection is gone

	endBoth = endRecv | endSend
)

// CloseWrite ends our direction: the peer reads io.EOF after the bytes written so far. A Write that waits fails.
func (s *Stream) CloseWrite() error {
	c := s.conn
	c.wmu.Lock()
	if s.werr != nil {
		err := s.werr
		c.wmu.Unlock()
		if s.ends.Load()&endSend != 0 {
			return nil
		}
		return err
	}
	c.queueEnd(s)
	s.endWrites(errWriteClosed)
	c.wmu.Unlock()
	s.finish(endSend)
	c.push()
	return nil
}

// errWriteClosed is what Write gives after CloseWrite.
var errWriteClosed = &net.OpError{Op: "write", Net: "hbone", Err: syscall.EPIPE}

// Close ends both directions, as close does for a TCP socket: what was written before is still delivered, and END_STREAM behind it. Only if bytes
// wait here unread, if more of them come, or if the peer does not end its direction within CloseTimeout, the peer is told by RST_STREAM to stop:
// NO_ERROR from a server, CANCEL from a client, which it may read as an ordinary end.
func (s *Stream) Close() error {
	if s.shut(func(dropped int) bool {
		if s.werr == nil {
			s.conn.queueEnd(s)
		}
		open := s.ends.Load()&(endRecv|endReset) == 0
		if open && dropped > 0 {
			s.conn.queueReset(s, s.goodbye())
		}
		return !open || dropped > 0
	}) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.ends.Load(); e&endReset == 0 && e&endBoth != endBoth {
		s.linger = time.AfterFunc(s.conn.set.CloseTimeout, s.dismiss)
	}
	return nil
}

// goodbye is the code that tells the peer to stop sending to a closed stream.
func (s *Stream) goodbye() http2.ErrCode {
	if s.request != nil {
		return http2.ErrCodeNo
	}
	return http2.ErrCodeCancel
}

// dismiss resets a closed stream whose peer goes on.
func (s *Stream) dismiss() {
	if e := s.ends.Load(); e&endReset != 0 || e&endBoth == endBoth {
		return
	}
	s.conn.wmu.Lock()
	s.conn.queueReset(s, s.goodbye())
	s.conn.wmu.Unlock()
	s.finish(endReset)
	s.conn.push()
}

// Reset ends both directions at once and tells the peer with an HTTP/2 error code. Bytes that wait here to be read are dropped.
// The peer sees ECONNRESET, or io.EOF for NO_ERROR (0) and CANCEL (8). After the stream has ended it does nothing.
func (s *Stream) Reset(code uint32) error {
	s.shut(func(int) bool {
		if e := s.ends.Load(); e&endReset == 0 && e&endBoth != endBoth {
			s.conn.queueReset(s, http2.ErrCode(code))
		}
		return true
	})
	return nil
}

// shut marks the stream closed by its owner and frees what it buffers. say queues the last frames and tells whether the stream is over, which is
// also the result. It is given the number of bytes that were dropped unread.
func (s *Stream) shut(say func(dropped int) bool) bool {
	c := s.conn
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return true
	}
	s.closed = true
	s.rdl.stop()
	dropped := s.buf.discard()
	s.rouse()
	s.mu.Unlock()

	c.wmu.Lock()
	over := say(dropped)
	s.wdl.stop()
	if s.werr == nil || errors.Is(s.werr, errWriteClosed) {
		s.endWrites(net.ErrClosed)
	}
	c.wmu.Unlock()
	c.grant(dropped, nil, 0)
	how := uint32(endSend)
	if over {
		how = endReset
	}
	s.finish(how)
	c.push()
	return over
}

// fail ends the stream from the side of the peer or of the connection. Bytes that came before stay readable.
func (s *Stream) fail(err error) {
	rerr := err
	var re *StreamError
	if errors.As(err, &re) && re.Remote && (re.Code == uint32(http2.ErrCodeNo) || re.Code == uint32(http2.ErrCodeCancel)) {
		rerr = io.EOF
	}
	// Writes end first, so that a reader that learns of the end does not find itself able to write.
	s.conn.wmu.Lock()
	s.reset = true
	if s.werr == nil {
		s.endWrites(err)
	}
	s.conn.wmu.Unlock()
	s.mu.Lock()
	if s.rerr == nil {
		s.rerr = rerr
		s.tellBroken()
	}
	dropped := 0
	if s.request != nil && !s.request.answered.Load() {
		dropped = s.buf.discard() // nobody will read what came ahead of an answer that cannot be given any more
	}
	if s.request == nil {
		s.reply(answer{err: err})
	}
	s.rouse()
	s.mu.Unlock()
	if s.conn.grant(dropped, nil, 0) {
		s.conn.push()
	}
	if s.request != nil {
		s.request.cancel(err)
	}
	s.finish(endReset)
}

// endWrites makes Write fail with err and wakes it. conn.wmu must be held.
func (s *Stream) endWrites(err error) {
	s.werr = err
	s.conn.leaveLine(s)
	s.wcond.Broadcast()
}

// end is the peer's END_STREAM. Only the holder of the seat calls it.
func (s *Stream) end() {
	s.mu.Lock()
	if s.rerr == nil {
		s.rerr = io.EOF
	}
	s.conn.roused(s)
	s.mu.Unlock()
	s.finish(endRecv)
}

// over says whether nothing more can come or go on a stream that ended so.
func over(ends uint32) bool { return ends&endReset != 0 || ends&endBoth == endBoth }

// finish records how the stream ended and takes it off the connection once nothing more can come or go. It is called once our last frame is queued, and
// before that is sent: a drained connection has to know that it is over before the peer, who learns of it by that frame, closes it. No lock may be held.
func (s *Stream) finish(how uint32) {
	before := s.ends.Or(how)
	if over(before) || !over(before|how) {
		return
	}
	s.mu.Lock()
	if s.linger != nil {
		s.linger.Stop()
	}
	s.mu.Unlock()
	s.conn.remove(s)
}
