// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// frameHeaderLen is the size of a frame header, in bytes (RFC 9113 §4.1).
const frameHeaderLen = 9

// outBuffer is a run of frames on their way to the socket. Small ones serve requests, answers and control frames; a large one is taken once
// DATA piles up, so that an idle or chatty connection holds none.
type outBuffer struct{ b []byte }

const smallOut = 4 << 10

var smallOuts = sync.Pool{New: func() any { return &outBuffer{b: make([]byte, 0, smallOut)} }}
var largeOuts sync.Pool // of whatever size settings asked for

// Write appends p, for the Framer that encodes control frames.
func (c *Conn) appendFrame(p []byte) (int, error) {
	copy(c.extend(len(p)), p)
	c.tail.id = 0
	return len(p), nil
}

type frameSink struct{ c *Conn }

func (s frameSink) Write(p []byte) (int, error) { return s.c.appendFrame(p) }

// extend makes room for n more bytes at the end of the queue and returns it. wmu must be held.
func (c *Conn) extend(n int) []byte {
	if c.out == nil {
		c.out = smallOuts.Get().(*outBuffer)
	}
	have := len(c.out.b)
	if have+n > cap(c.out.b) {
		bigger, _ := largeOuts.Get().(*outBuffer)
		if bigger == nil || cap(bigger.b) < have+n {
			bigger = &outBuffer{b: make([]byte, 0, max(have+n, c.set.WriteQueue))}
		}
		bigger.b = append(bigger.b[:0], c.out.b...)
		c.out.release()
		c.out = bigger
	}
	c.out.b = c.out.b[:have+n]
	return c.out.b[have:]
}

func (o *outBuffer) release() {
	o.b = o.b[:0]
	switch {
	case cap(o.b) == smallOut:
		smallOuts.Put(o)
	case cap(o.b) <= 2*maxControlQueue:
		largeOuts.Put(o)
	}
}

// pending is how many bytes wait for the writer. wmu must be held.
func (c *Conn) pending() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.b)
}

// room says how many of want bytes the stream may queue as one frame now; 0 means that it has to wait, and has taken its place in the queue if it
// waits for the connection and not for its own window. wmu must be held.
func (c *Conn) room(s *Stream, want int) int {
	if s.outflow <= 0 {
		c.leaveQueue(s) // its window is its own affair
		return 0
	}
	if !s.granted && (len(c.waiting) > 0 || c.grants) {
		c.enterQueue(s)
		return 0
	}
	size := int(min(int64(min(want, c.writeFrame)), s.outflow))
	// A frame that has to be cut to the space left should still be worth its header.
	space := c.set.WriteQueue - c.pending() - frameHeaderLen
	if space < min(size, c.set.WriteQueue/8) || space <= 0 || c.outflow <= 0 {
		s.granted = false
		c.grants = false
		c.enterQueue(s)
		return 0
	}
	return int(min(int64(min(size, space)), c.outflow))
}

// enterQueue puts the stream at the end of those that wait for the connection. wmu must be held.
func (c *Conn) enterQueue(s *Stream) {
	if !s.queued {
		s.queued = true
		c.waiting = append(c.waiting, s)
	}
}

// leaveQueue takes the stream out of the queue and passes its turn on if it had one. wmu must be held.
func (c *Conn) leaveQueue(s *Stream) {
	if s.queued {
		s.queued = false
		for i, w := range c.waiting {
			if w == s {
				c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
				break
			}
		}
	}
	if s.granted {
		s.granted = false
		c.grants = false
		c.next()
	}
}

// next gives the turn to the stream that waits longest, if there is something to give and nobody has it. wmu must be held.
func (c *Conn) next() {
	if c.grants || len(c.waiting) == 0 || c.outflow <= 0 || c.pending()+frameHeaderLen >= c.set.WriteQueue {
		return
	}
	s := c.waiting[0]
	copy(c.waiting, c.waiting[1:])
	c.waiting[len(c.waiting)-1] = nil
	c.waiting = c.waiting[:len(c.waiting)-1]
	s.queued, s.granted, c.grants = false, true, true
	s.wcond.Broadcast()
}

// queueData queues p, which room allowed, as DATA and passes the turn on. Bytes that follow bytes of the same stream join their frame. wmu must be held.
func (c *Conn) queueData(s *Stream, p []byte) {
	s.outflow -= int64(len(p))
	c.outflow -= int64(len(p))
	c.sent.Add(int64(len(p)))
	if c.tail.id == s.id && c.tail.size+len(p) <= c.writeFrame {
		copy(c.extend(len(p)), p)
		c.tail.size += len(p)
		putLength(c.out.b[c.tail.at:], c.tail.size)
	} else {
		at := c.pending()
		b := c.extend(frameHeaderLen + len(p))
		putLength(b, len(p))
		b[3], b[4] = byte(http2.FrameData), 0
		binary.BigEndian.PutUint32(b[5:], s.id)
		copy(b[frameHeaderLen:], p)
		c.tail = lastData{id: s.id, at: at, size: len(p)}
	}
	if s.granted {
		s.granted = false
		c.grants = false
		c.next()
	}
	c.wake.Signal()
}

// lastData describes the DATA frame at the very end of the queue; id is 0 if the queue ends with something else.
type lastData struct {
	id       uint32
	at, size int
}

func putLength(b []byte, n int) { b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n) }

// queueEnd queues END_STREAM, on the last DATA frame if that is still here. wmu must be held.
func (c *Conn) queueEnd(s *Stream) {
	if c.tail.id == s.id {
		c.out.b[c.tail.at+4] |= byte(http2.FlagDataEndStream)
		c.tail.id = 0
	} else {
		c.encode(func(f *http2.Framer) error { return f.WriteData(s.id, true, nil) })
	}
	c.wake.Signal()
}

// queueReset queues RST_STREAM. wmu must be held.
func (c *Conn) queueReset(id uint32, code http2.ErrCode) {
	c.forgotten.add(id)
	c.encode(func(f *http2.Framer) error { return f.WriteRSTStream(id, code) })
	c.wake.Signal()
}

// encode queues what write makes of it. After the end of the connection it does nothing. wmu must be held.
func (c *Conn) encode(write func(*http2.Framer) error) {
	if c.closing {
		return
	}
	if err := write(c.framer); err != nil {
		// Only an illegal stream id or value gets here, and all of ours are made in this package.
		panic("hbone: encoding a frame of our own: " + err.Error())
	}
	c.wake.Signal()
}

// grant tells the peer that n bytes were taken out of the connection's window, and, if inc is not 0, that stream id may send inc bytes more.
func (c *Conn) grant(n int, id, inc uint32) {
	connInc := uint32(0)
	if n > 0 {
		connInc = c.inflow.give(int64(n), c.set.ConnWindow)
	}
	if connInc == 0 && inc == 0 {
		return
	}
	c.wmu.Lock()
	c.encode(func(f *http2.Framer) error {
		if inc > 0 {
			if err := f.WriteWindowUpdate(id, inc); err != nil {
				return err
			}
		}
		if connInc > 0 {
			return f.WriteWindowUpdate(0, connInc)
		}
		return nil
	})
	c.wmu.Unlock()
}

// write is the writing goroutine. It ends when the connection does, after a last attempt to send what is queued.
func (c *Conn) write() {
	defer c.exit()
	c.wmu.Lock()
	for {
		for c.pending() == 0 && !c.closing {
			c.wake.Wait()
		}
		if c.pending() == 0 || c.broken {
			break
		}
		out := c.out
		c.out, c.tail, c.unread = nil, lastData{}, 0
		c.next()
		c.wmu.Unlock()
		_, err := c.nc.Write(out.b)
		out.release()
		if err != nil {
			c.fail(&ConnError{Remote: true, Reason: "write", Err: err}, true)
		}
		c.wmu.Lock()
	}
	broken := c.broken
	c.wmu.Unlock()
	if !broken {
		c.partReader()
	}
	// The error would tell of a peer that did not take our last words; there is nobody left to act on it.
	_ = c.nc.Close()
}

// partReader ends our direction of the transport and gives the peer FlushTimeout to end its own, while the reading goroutine goes on. To close at
// once would let the kernel answer a late WINDOW_UPDATE with a reset, which takes the last bytes that we sent with it.
func (c *Conn) partReader() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(c.set.FlushTimeout)) == nil {
		<-c.readDone
	}
}

// hurry bounds what the writer may still take before it closes the socket.
func (c *Conn) hurry(limit time.Duration) {
	// A transport without deadlines just takes longer.
	_ = c.nc.SetWriteDeadline(time.Now().Add(limit))
}
