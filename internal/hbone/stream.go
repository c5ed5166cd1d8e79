// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// Stream is one tunnelled byte stream: a net.Conn whose directions end separately.
//
// Read gives io.EOF after the peer's END_STREAM, and after its reset with NO_ERROR or CANCEL; other resets give a *StreamError. Bytes
// that came before the end are delivered first. Write returns when its bytes are on their way to the network; a Write that fails tells how many are.
// Close ends both directions, and tells the peer so if it had not finished sending. A stream must be closed or reset by its
// owner, also after an error.
type Stream struct {
	conn *Conn
	id   uint32

	// ends collects how far the stream has ended; whoever completes it removes the stream from the connection.
	ends atomic.Uint32

	// request is the server's side of the stream's beginning; nil on a client.
	request  *Request
	accepted bool // client: the final answer came; belongs to the holder of the seat

	readMu    sync.Mutex // one Read at a time
	mu        sync.Mutex // guards what follows
	rcond     sync.Cond
	buf       recvBuffer
	inflow    streamInflow
	rerr      error     // why no more bytes come, once buf is empty
	answer    *answer   // client: the peer's, until Open took it
	due       time.Time // client: when Open looks whether the peer is there
	impatient bool      // client: that time has come
	broken    func()    // to be called when rerr becomes an error, see AfterReset
	closed    bool      // by Close or Reset here
	rdl       deadline
	linger    *time.Timer // after Close, until the peer has ended its direction

	// Of who waits in Read or Open:
	w        waiter
	waiting  bool // on rcond
	enlisted bool // with the seat; belongs to who waits
	// want is the buffer of a Read that holds the seat, and landed how much of it is filled. Both belong to the holder of the seat.
	want   []byte
	landed int

	held    atomic.Bool // first bytes wait in the queue for the stream's next call, see haste
	writeMu sync.Mutex  // one Write at a time
	// Guarded by conn.wmu:
	wcond   sync.Cond
	outflow int64     // what the peer lets us send; negative after it shrank its setting
	werr    error     // why no more bytes go
	wrote   bool      // something
	reset   bool      // by either side: no frame follows
	began   time.Time // when its first bytes were sent, zero once it went on, see haste
	queued  bool      // waits in conn.waiting
	granted bool      // was taken out of conn.waiting and may send one frame
	wdl     deadline
}

const (
	endRecv  = 1 << iota // the peer's END_STREAM came
	endSend              // our END_STREAM is queued
	endReset             // RST_STREAM from either side, or the connection is gone

	endBoth = endRecv | endSend
)

func newStream(c *Conn, id uint32) *Stream {
	s := &Stream{conn: c, id: id, inflow: streamInflow{avail: int64(c.set.StreamWindow)}}
	s.rcond.L = &s.mu
	s.w.cond, s.w.stream = &s.rcond, s
	s.wcond.L = &c.wmu
	return s
}

// Conn gives the connection that carries the stream.
func (s *Stream) Conn() *Conn { return s.conn }

// LocalAddr gives the local address of the connection below.
func (s *Stream) LocalAddr() net.Addr { return s.conn.nc.LocalAddr() }

// RemoteAddr gives the remote address of the connection below.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.nc.RemoteAddr() }

// ConnectionState gives what TLS knows of the peer that carries the stream, see Conn.ConnectionState.
func (s *Stream) ConnectionState() (state tls.ConnectionState, ok bool) {
	return s.conn.ConnectionState()
}

// await waits until something may have come: by reading frames if nobody else does, else to be told. mu must be held; it is let go meanwhile. Who called it
// calls endAwait when it waits no more.
func (s *Stream) await() {
	if s.conn.take(&s.w) {
		s.enlisted = false
		s.mu.Unlock()
		s.conn.lead(&s.w, s)
		s.mu.Lock()
		return
	}
	s.enlisted = true
	s.waiting = true
	s.rcond.Wait()
	s.waiting = false
}

// endAwait gives up the place in the line for the seat. mu must not be held.
func (s *Stream) endAwait() {
	if s.enlisted {
		s.enlisted = false
		s.conn.leave(&s.w, false)
	}
}

// rouse has who waits in Read or Open look again. mu must be held.
func (s *Stream) rouse() {
	s.rcond.Broadcast()
	s.conn.kick(&s.w)
}

// Read reads what has come, waiting for at least one byte.
func (s *Stream) Read(p []byte) (int, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	defer s.endAwait()
	c := s.conn
	s.mu.Lock()
	for {
		switch {
		case s.closed:
			s.mu.Unlock()
			return 0, net.ErrClosed
		case s.rdl.expired:
			s.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			s.mu.Unlock()
			return 0, nil
		case s.buf.size > 0:
			return s.takeBuffered(p)
		case s.rerr != nil:
			err := s.rerr
			s.mu.Unlock()
			return 0, err
		}
		if s.held.Load() {
			s.mu.Unlock()
			s.letGo()
			s.mu.Lock()
			continue
		}
		s.want, s.landed = p, 0
		s.await()
		n := s.landed
		s.want, s.landed = nil, 0
		if n == 0 {
			continue
		}
		if s.closed {
			s.mu.Unlock()
			if c.grant(n, nil, 0) {
				c.push()
			}
			return 0, net.ErrClosed
		}
		s.taken(n)
		return n, nil
	}
}

// takeBuffered is Read when there are bytes. mu must be held and is let go.
func (s *Stream) takeBuffered(p []byte) (int, error) {
	n := 0
	for n < len(p) && s.buf.size > 0 {
		data, epoch := s.buf.peek()
		s.mu.Unlock()
		k := copy(p[n:], data)
		s.mu.Lock()
		if !s.buf.drop(k, epoch) { // closed meanwhile, which credited what was still in the buffer, these k bytes included
			s.mu.Unlock()
			if s.conn.grant(n, nil, 0) {
				s.conn.push()
			}
			return 0, net.ErrClosed
		}
		n += k
	}
	s.taken(n)
	return n, nil
}

// taken credits n bytes that the reader has. mu must be held and is let go.
func (s *Stream) taken(n int) {
	inc := uint32(0)
	if s.rerr == nil {
		inc = s.inflow.give(int64(n), s.conn.set.StreamWindow)
	}
	s.mu.Unlock()
	if s.conn.grant(n, s, inc) {
		s.conn.push()
	}
}

// Write sends p, waiting for the peer's windows and for its turn among the streams of the connection.
func (s *Stream) Write(p []byte) (int, error) { return s.write(p, true, false) }

// tryWrite is Write without waiting: it sends as much of p as can be sent now.
func (s *Stream) tryWrite(p []byte, more bool) (int, error) { return s.write(p, false, more) }

func (s *Stream) write(p []byte, wait, more bool) (n int, err error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	c := s.conn
	blocked := false
	c.wmu.Lock()
	for {
		switch {
		case s.werr != nil:
			err = s.werr
		case s.wdl.expired:
			err = os.ErrDeadlineExceeded
		}
		if err != nil || n == len(p) {
			break
		}
		if size, straight := c.room(s, len(p)-n); size > 0 {
			first := !s.wrote
			c.haste.wrote(s, first)
			if straight {
				// Nothing may follow a frame that ends a window, and TCP would keep its last bytes for a fifth of a second.
				c.sendData(s, p[n:n+size], more && int64(size) < min(s.outflow, c.outflow))
			} else {
				c.queueData(s, p[n:n+size])
			}
			n += size
			if first && !straight && n == len(p) && c.holds() {
				c.holdBack(s)
				c.next()
				continue
			}
			c.pass()
			continue
		}
		if !wait {
			break
		}
		if !blocked && (c.flushing || s.outflow <= 0 || c.outflow <= 0) {
			// Only the peer can help, so its frames have to be read.
			blocked = true
			c.wmu.Unlock()
			c.blockedWriter(1)
			c.wmu.Lock()
			continue
		}
		s.wcond.Wait()
	}
	c.leaveLine(s)
	c.wmu.Unlock()
	if blocked {
		c.blockedWriter(-1)
	}
	return n, err
}

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

// finish records how the stream ended and takes it off the connection once nothing more can come or go. It is called once our last frame is queued, and
// before that is sent: a drained connection has to know that it is over before the peer, who learns of it by that frame, closes it. No lock may be held.
func (s *Stream) finish(how uint32) {
	done := func(e uint32) bool { return e&endReset != 0 || e&endBoth == endBoth }
	before := s.ends.Or(how)
	if done(before) || !done(before|how) {
		return
	}
	s.mu.Lock()
	if s.linger != nil {
		s.linger.Stop()
	}
	s.mu.Unlock()
	s.conn.remove(s)
}

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline makes Read fail with os.ErrDeadlineExceeded from t on; the zero time never.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.rdl.set(t, &s.mu, s.rouse)
	return nil
}

// SetWriteDeadline makes Write fail with os.ErrDeadlineExceeded from t on; the zero time never.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	c := s.conn
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if errors.Is(s.werr, net.ErrClosed) {
		return s.werr
	}
	s.wdl.set(t, &c.wmu, s.wcond.Broadcast)
	return nil
}
