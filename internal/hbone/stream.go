// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
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
func (s *Stream) Write(p []byte) (int, error) { return s.write(p, true) }

// tryWrite is Write without waiting: it sends as much of p as can be sent now.
func (s *Stream) tryWrite(p []byte) (int, error) { return s.write(p, false) }

func (s *Stream) write(p []byte, wait bool) (n int, err error) {
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
				c.sendData(s, p[n:n+size])
			} else {
				c.queueData(s, p[n:n+size])
			}
			n += size
			if first && !straight && n == len(p) && c.mayHold() {
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
