// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	// frameHeaderLen is the size of a frame header, in bytes (RFC 9113 §4.1).
	frameHeaderLen = 9
	// tlsRecord is how many bytes one TLS record carries at most (RFC 8446 §5.1), and tlsOverhead what it adds to them: header, content type, and tag (§5.2).
	tlsRecord   = 16 << 10
	tlsOverhead = 5 + 1 + 16
	// smallWrite is up to how many bytes a Write is copied, in bytes, to be sent together with what others have to say; a larger one waits for its turn and is
	// sent from where it is. One record.
	smallWrite = 16 << 10
)

// recordOf gives how many bytes of a write to nc travel in one record of the lowest TLS: a frame that ends with its record costs no further one. A tunnel in a tunnel
// leaves room for the frame header and the record of the outer one.
func recordOf(nc net.Conn) int {
	secured, ok := nc.(*tls.Conn)
	if !ok {
		return tlsRecord
	}
	t, ok := secured.NetConn().(*Transport)
	if !ok {
		return tlsRecord
	}
	if outer, ok := t.Conn.(*Stream); ok {
		return max(outer.conn.record-frameHeaderLen-tlsOverhead, tlsRecord/2)
	}
	return tlsRecord
}

// setWriteFrame takes over the peer's MAX_FRAME_SIZE. A frame and its header fill records to the end. wmu must be held, or the connection be new.
func (c *Conn) setWriteFrame(peer int) {
	n := min(c.set.WriteFrameSize-frameHeaderLen, peer)
	if records := (n + frameHeaderLen) / c.record; records > 0 {
		n = records*c.record - frameHeaderLen
	}
	c.writeFrame = n
}

// outBuffer is a run of frames on their way to the transport. Small ones serve requests, answers and control frames, middle ones those of a crowd; a large one is
// taken once DATA piles up, so that an idle or chatty connection holds none.
type outBuffer struct{ b []byte }

const (
	smallOut  = 4 << 10
	middleOut = 16 << 10
)

var smallOuts = sync.Pool{New: func() any { return &outBuffer{b: make([]byte, 0, smallOut)} }}
var middleOuts = sync.Pool{New: func() any { return &outBuffer{b: make([]byte, 0, middleOut)} }}
var largeOuts sync.Pool // of whatever size settings asked for

// appendFrame appends p, for the Framer that encodes control frames.
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
		var bigger *outBuffer
		if have+n <= middleOut {
			bigger = middleOuts.Get().(*outBuffer)
		} else {
			bigger, _ = largeOuts.Get().(*outBuffer)
		}
		if bigger == nil || cap(bigger.b) < have+n {
			bigger = &outBuffer{b: make([]byte, 0, max(have+n, 2*cap(c.out.b), c.set.WriteQueue))}
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
	case cap(o.b) == middleOut:
		middleOuts.Put(o)
	case cap(o.b) <= 2*maxControlQueue:
		largeOuts.Put(o)
	}
}

// pending is how many bytes wait to be sent. wmu must be held.
func (c *Conn) pending() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.b)
}

// queueData queues p, which room allowed, as DATA and passes the turn on. Bytes that follow bytes of the same stream join their frame. wmu must be held.
func (c *Conn) queueData(s *Stream, p []byte) {
	c.spendWindows(s, len(p))
	if c.tail.id == s.id && c.tail.size+len(p) <= c.writeFrame {
		copy(c.extend(len(p)), p)
		c.tail.size += len(p)
		putLength(c.out.b[c.tail.at:], c.tail.size)
		return
	}
	at := c.pending()
	copy(c.beginFrame(s, len(p), len(p)), p)
	c.tail = lastData{id: s.id, at: at, size: len(p)}
}

// sendData sends p, which room allowed, as DATA, from where it is: only what shares a record with the frame's header is copied. The turn must be free. wmu must be
// held; it is let go meanwhile.
func (c *Conn) sendData(s *Stream, p []byte) {
	c.spendWindows(s, len(p))
	head := len(p)
	if used := c.pending() + frameHeaderLen; used+head > c.record {
		head = min(head, c.record-used%c.record)
	}
	copy(c.beginFrame(s, len(p), head), p)
	c.transmit(p[head:])
}

func (c *Conn) spendWindows(s *Stream, n int) {
	s.wrote = true
	s.outflow -= int64(n)
	c.outflow -= int64(n)
	c.sent.Add(int64(n))
}

// beginFrame queues the header of a DATA frame of size bytes and returns room for the first n of them. wmu must be held.
func (c *Conn) beginFrame(s *Stream, size, n int) []byte {
	b := c.extend(frameHeaderLen + n)
	putLength(b, size)
	b[3], b[4] = byte(http2.FrameData), 0
	binary.BigEndian.PutUint32(b[5:], s.id)
	return b[frameHeaderLen:]
}

// lastData describes the DATA frame at the very end of the queue; id is 0 if the queue ends with something else.
type lastData struct {
	id       uint32
	at, size int
}

func putLength(b []byte, n int) { b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n) }

// queueEnd queues END_STREAM, on the last DATA frame if that is still here. wmu must be held.
func (c *Conn) queueEnd(s *Stream) {
	c.haste.ended(s)
	if c.tail.id == s.id {
		c.out.b[c.tail.at+4] |= byte(http2.FlagDataEndStream)
		c.tail.id = 0
		return
	}
	c.encode(func(f *http2.Framer) error { return f.WriteData(s.id, true, nil) })
}

// queueReset queues RST_STREAM, unless the stream was reset before. wmu must be held.
func (c *Conn) queueReset(s *Stream, code http2.ErrCode) {
	if s.reset {
		return
	}
	s.reset = true
	c.forget(s.id)
	c.encode(func(f *http2.Framer) error { return f.WriteRSTStream(s.id, code) })
}

// encode queues what write makes of it; somebody has to push it when no lock is held any more. After the end of the connection it does nothing. wmu must be held.
func (c *Conn) encode(write func(*http2.Framer) error) {
	if c.closing {
		return
	}
	if err := write(c.framer); err != nil {
		// Only an illegal stream id or value gets here, and all of ours are made in this package.
		panic("hbone: encoding a frame of our own: " + err.Error())
	}
	if c.pending() > c.set.WriteQueue+maxGlut {
		c.glut.Store(true)
	}
}

// grant tells the peer that n bytes were taken out of the connection's window, and, if inc is not 0, that the stream may send inc bytes more. queued says
// that there is something to push.
func (c *Conn) grant(n int, s *Stream, inc uint32) (queued bool) {
	connInc := uint32(0)
	if n > 0 {
		connInc = c.inflow.give(int64(n), c.set.ConnWindow)
	}
	if connInc == 0 && inc == 0 {
		return false
	}
	c.wmu.Lock()
	c.encode(func(f *http2.Framer) error {
		if inc > 0 && !s.reset {
			if err := f.WriteWindowUpdate(s.id, inc); err != nil {
				return err
			}
		}
		if connInc > 0 {
			return f.WriteWindowUpdate(0, connInc)
		}
		return nil
	})
	c.wmu.Unlock()
	return true
}

// push sends what is queued, unless somebody is at it: then that one will. No lock may be held.
func (c *Conn) push() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.sending && !c.closing && c.pending() > 0 && c.direct() && !c.crowd.Load() {
		c.transmit(nil)
	}
	c.pass()
}

// direct says whether whoever makes a frame may write it: the network cannot hold it up. wmu must be held.
func (c *Conn) direct() bool { return c.under != nil }

// transmit writes the queue to the transport and then rest, which must be the rest of the frame that ends the queue. The turn must be free or ours. wmu must
// be held; it is let go meanwhile.
func (c *Conn) transmit(rest []byte) {
	c.sending = true
	out := c.out
	c.out, c.tail, c.unread, c.replies = nil, lastData{}, 0, 0
	c.haste.holds = false
	c.next() // there is room in the queue
	c.wmu.Unlock()
	err := c.writeOurs(out.b)
	out.release()
	if err == nil {
		err = c.writeOurs(rest)
	}
	if err != nil {
		c.fail(&ConnError{Remote: true, Reason: "write", Err: err}, true)
	}
	c.wmu.Lock()
	c.sending = c.flushing
}

// writeOurs writes p to the transport.
func (c *Conn) writeOurs(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.under != nil {
		c.under.ours.Store(true)
		defer c.under.ours.Store(false)
	}
	_, err := c.nc.Write(p)
	return err
}

// pass sees to it that somebody sends what there is to send, if the turn is free. wmu must be held.
func (c *Conn) pass() {
	c.next()
	c.startFlush()
}

// startFlush starts the goroutine that sends, if there is something to send that nobody else will. wmu must be held.
func (c *Conn) startFlush() {
	if c.sending {
		return
	}
	taken := c.direct() && c.grants // by the stream that has the turn
	if c.closing || c.under.held() || c.pending() > 0 && !taken {
		c.sending, c.flushing = true, true
		go c.flush()
	}
}

// flushKept has what the Transport keeps sent. It may be called within any write to nc, so wmu is never held during one.
func (c *Conn) flushKept() {
	c.wmu.Lock()
	c.startFlush()
	c.wmu.Unlock()
}

// flush is the goroutine that sends what nobody else can or should. It ends when all is sent; with the connection, it closes the transport.
func (c *Conn) flush() {
	if c.crowd.Load() {
		runtime.Gosched() // those who were woken together shall have their say in one write
	}
	c.wmu.Lock()
	for !c.broken && (c.pending() > 0 || c.under.held()) {
		if !c.under.held() {
			c.transmit(nil)
			continue
		}
		c.wmu.Unlock()
		if err := c.under.flush(); err != nil {
			c.fail(&ConnError{Remote: true, Reason: "write", Err: err}, true)
		}
		c.wmu.Lock()
	}
	if c.closing {
		broken := c.broken
		c.wmu.Unlock()
		c.hangUp(broken)
		return
	}
	c.sending, c.flushing = false, false
	c.pass()
	c.wmu.Unlock()
}

// hangUp closes the transport. The turn is ours and is not given back.
func (c *Conn) hangUp(broken bool) {
	if !broken {
		c.partReader()
	}
	// The error would tell of a peer that did not take our last words; there is nobody left to act on it.
	_ = c.nc.Close()
	c.exit()
}

// partReader ends our direction of the transport and gives the peer FlushTimeout to end its own, while what comes is still read. To close at
// once would let the kernel answer a late WINDOW_UPDATE with a reset, which takes the last bytes that we sent with it.
func (c *Conn) partReader() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.hurry(c.set.FlushTimeout) // TLS lets no write succeed after its last record, which may wait below it
	if c.under.held() && c.under.flush() != nil {
		return
	}
	if c.limitReads(time.Now().Add(c.set.FlushTimeout)) == nil {
		c.attend()
		<-c.readDone
	}
}

// hurry bounds what may still be written before the transport is closed.
func (c *Conn) hurry(limit time.Duration) {
	// A transport without deadlines just takes longer.
	_ = c.nc.SetWriteDeadline(time.Now().Add(limit))
}
