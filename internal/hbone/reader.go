// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/net/http2"
)

const (
	// readAhead is the size of the buffer between the transport and the frames, in bytes. It catches small frames several at a time; large payloads go
	// past it straight to where they belong.
	readAhead = 4 << 10
	// maxOtherFrame is the largest frame other than DATA that is read, in bytes. The largest that anyone needs is a HEADERS frame.
	maxOtherFrame = 32 << 10
	// unknownUnit is how many bytes of a frame of an unknown type cost a token of the control budget, in bytes: they are in no window.
	unknownUnit = 4 << 10
)

// input is the reading side of a connection. It belongs to the holder of the seat.
type input struct {
	buf  []byte // received and not yet used: buf[r:w]
	r, w int
	want int // how many bytes are to come before there is anything to do; more are read if that costs nothing

	greeted bool   // the client's preface came; always true on a client
	settled bool   // the peer's first SETTINGS came
	large   []byte // a frame that does not fit into buf, as it comes: large[:got] is here
	got     int
	data    incoming    // a DATA frame, as it comes
	bulk    bool        // the last DATA frame was larger than buf
	block   headerBlock // a header block, as its frames come
	spoiled bool        // a rule was broken: whatever else comes is thrown away

	source  frameSource
	framer  *http2.Framer // parses all frames but DATA
	decoder *headerDecoder

	resets   bucket
	control  bucket
	updates  bucket
	paidSent int64 // DATA bytes sent for which updates were earned

	// Of the present holder of the seat:
	stream  *Stream // whose reader it is, if any
	accepts bool    // it waits in Accept
	along   bool    // it has bytes, and takes along what else is here without waiting
	sated   bool    // it has what it waited for
	back    bool    // and is likely to want more
	parting bool    // it is to leave the seat to somebody whose bytes come next
	woken   int     // how many others, requests among them, got something out of the last read of the transport
	owes    bool    // frames were queued on the way
}

// frameSource hands the Framer one frame that has come whole.
type frameSource struct{ b []byte }

func (f *frameSource) Read(p []byte) (int, error) {
	if len(f.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.b)
	f.b = f.b[n:]
	return n, nil
}

func (in *input) newFramer(maxFrame uint32) {
	in.framer = http2.NewFramer(nil, &in.source)
	in.framer.SetMaxReadFrameSize(maxFrame)
}

// errKicked says that the holder of the seat is wanted elsewhere.
var errKicked = errors.New("kicked")

// lead reads frames until the waiter, who holds the seat, has what it waits for, or is kicked, or nothing more can be read. Then it leaves the seat.
func (c *Conn) lead(w *waiter, s *Stream) {
	in := &c.in
	in.stream, in.accepts, in.along, in.sated, in.back, in.parting, in.woken = s, w.standby, false, false, false, false, 0
	err := c.readFrames()
	back := in.back
	in.stream = nil
	if in.owes {
		in.owes = false
		c.push()
	}
	switch {
	case err == nil || errors.Is(err, errKicked):
	case c.in.spoil(err):
		rule := err.(*breach) //nolint:errorlint // spoil says so
		e := &ConnError{Code: uint32(rule.code), Reason: rule.reason, event: rule.event}
		if rule.code == http2.ErrCodeEnhanceYourCalm {
			e.Err = &BudgetError{Event: rule.event}
		}
		c.fail(e, false)
	default:
		c.endReading(err)
		return
	}
	c.leave(w, back)
}

// spoil says whether err is a broken rule, after which what comes is not looked at any more. It is still read: a socket closed with unread bytes may lose
// our GOAWAY.
func (in *input) spoil(err error) bool {
	_, rule := err.(*breach) //nolint:errorlint // ours, and never wrapped
	if rule {
		in.spoiled, in.bulk = true, false
		in.large, in.data, in.block = nil, incoming{}, headerBlock{}
	}
	return rule
}

// endReading is the end of the transport.
func (c *Conn) endReading(err error) {
	s := &c.seat
	s.mu.Lock()
	s.over = true
	s.holder = nil
	s.timer.Stop()
	s.mu.Unlock()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // nobody may take the end of the connection for the end of a stream
	}
	c.fail(&ConnError{Remote: true, Err: err}, true)
	c.in.large, c.in.data, c.in.block = nil, incoming{}, headerBlock{}
	if c.under != nil {
		c.under.ahead.drop() // TLS may have ended with bytes in it
	}
	c.dropRequests()
	close(c.readDone)
	c.exit()
}

func (c *Conn) readFrames() error {
	in := &c.in
	for {
		in.want = 1
		more, err := c.advance()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if crowd := in.woken > 1; crowd != c.crowd.Load() {
			c.crowd.Store(crowd)
		}
		in.woken = 0
		if in.sated || in.parting {
			return nil
		}
		if in.owes {
			in.owes = false
			c.push()
		}
		if c.glut.Load() && !in.spoiled {
			return calm(EventUnreadAnswers, "what its frames cause is not read")
		}
		if err := c.fill(); err != nil {
			if errors.Is(err, errNotHere) {
				if in.along = false; c.enough(in.stream) {
					return nil
				}
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) && c.seat.isKicked() {
				return errKicked
			}
			return err
		}
	}
}

// fill reads from the transport, once.
func (c *Conn) fill() error {
	in := &c.in
	if in.data.left > 0 && in.data.stream != nil {
		return c.land()
	}
	var n int
	var err error
	if in.large != nil {
		n, err = c.read(in.large[in.got:])
		in.got += n
	} else {
		have := copy(in.buf, in.buf[in.r:in.w])
		in.r, in.w = 0, have
		room := in.buf[have:]
		if in.bulk && in.want < len(room) {
			room = room[:in.want] // what follows the header shall go straight to its stream
		}
		n, err = c.read(room)
		in.w += n
	}
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// advance acts on what was read: a frame or a part of one. more says that it is worth calling again, else the transport has to be read first.
func (c *Conn) advance() (more bool, err error) {
	in := &c.in
	have := in.buf[in.r:in.w]
	switch {
	case in.spoiled:
		in.r, in.w = 0, 0
		return false, nil
	case in.data.open:
		return c.advanceData(have), nil
	case in.large != nil:
		return c.advanceLarge(have)
	case !in.greeted:
		n := min(len(have), len(http2.ClientPreface))
		if !strings.HasPrefix(http2.ClientPreface, string(have[:n])) {
			return false, protocol("no HTTP/2 preface")
		}
		if n < len(http2.ClientPreface) {
			return false, nil
		}
		in.r += n
		in.greeted = true
		return true, nil
	case len(have) < frameHeaderLen:
		in.want = frameHeaderLen - len(have)
		return false, nil
	}
	fh := frameHeader(have)
	if err := c.admit(fh); err != nil {
		return false, err
	}
	switch {
	case fh.Type == http2.FrameData:
		return c.beginData(fh, have)
	case fh.Type > http2.FrameContinuation:
		for range 1 + fh.Length/unknownUnit {
			if !in.control.spend(c.set.Control) {
				return false, calm(EventControlBudget, "too many frames of unknown types")
			}
		}
		c.ping.signs.Add(1)
		in.r += frameHeaderLen
		in.data = incoming{open: true, left: int(fh.Length), free: true}
		return true, nil
	}
	size := frameHeaderLen + int(fh.Length)
	if size > len(in.buf) {
		in.large, in.got = make([]byte, size), 0
		return true, nil
	}
	if len(have) < size {
		in.want = size - len(have)
		return false, nil
	}
	in.r += size
	return true, c.onFrame(have[:size])
}

func (c *Conn) advanceLarge(have []byte) (more bool, err error) {
	in := &c.in
	n := copy(in.large[in.got:], have)
	in.got += n
	in.r += n
	if in.got < len(in.large) {
		return false, nil
	}
	frame := in.large
	in.large = nil
	err = c.onFrame(frame)
	if !in.block.open {
		in.newFramer(c.set.MaxFrameSize) // the old one keeps a buffer as large as the largest frame that it ever read
	}
	return true, err
}

func frameHeader(b []byte) http2.FrameHeader {
	return http2.FrameHeader{
		Length:   uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		Type:     http2.FrameType(b[3]),
		Flags:    http2.Flags(b[4]),
		StreamID: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1),
	}
}

// admit judges a frame by its header, before anything is done for it.
func (c *Conn) admit(fh http2.FrameHeader) error {
	in := &c.in
	headers := fh.Type == http2.FrameHeaders || fh.Type == http2.FrameContinuation
	switch {
	case !in.settled && fh.Type != http2.FrameSettings && fh.Type != http2.FrameGoAway:
		// A GOAWAY is no greeting either, but servers that turn a connection away begin with it, and it says why.
		return protocol("first frame is not SETTINGS")
	case fh.Length > c.set.MaxFrameSize:
		return errFrameTooLarge
	case in.block.open && fh.Type != http2.FrameContinuation:
		return protocol("header block interrupted")
	case fh.Length > maxOtherFrame && headers:
		return calm(EventHeaderLimit, "header block too large")
	case fh.Length > maxOtherFrame && fh.Type < http2.FrameContinuation && fh.Type != http2.FrameData:
		return errFrameTooLarge
	}
	return nil
}

// onFrame acts on a frame other than DATA.
func (c *Conn) onFrame(frame []byte) error {
	c.ping.signs.Add(1)
	if http2.FrameType(frame[3]) == http2.FrameWindowUpdate {
		return c.onWindowUpdate(frameHeader(frame), frame[frameHeaderLen:]) // the only frame that bulk brings along: the Framer would make an object of each
	}
	c.in.source.b = frame
	f, err := c.in.framer.ReadFrame()
	if err != nil {
		return c.frameError(http2.FrameType(frame[3]), err)
	}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.onHeaders(f)
	case *http2.ContinuationFrame:
		return c.onContinuation(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.GoAwayFrame:
		return c.onGoAway(f)
	case *http2.PriorityFrame:
		return c.onPriority(f)
	case *http2.PushPromiseFrame:
		return protocol("PUSH_PROMISE, which was not allowed")
	}
	return protocol("frame in the wrong place")
}

// isIdle says whether the stream was never opened by either side.
func (c *Conn) isIdle(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id%2 == 0 {
		return true // no peer of ours opens those: push is off
	}
	if c.drain == drainSaid && !c.client {
		return false // beyond the last id we no longer look
	}
	return id > c.opened
}
