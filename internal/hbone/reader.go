// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"io"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxOtherFrame is the largest frame other than DATA that is read, in bytes. The largest that anyone needs is a HEADERS frame.
	maxOtherFrame = 32 << 10
	// maxContinuations is how many CONTINUATION frames one header block may have. With MaxHeaderBytes of 16 KiB one frame is enough for
	// every honest peer; the flood of CVE-2024-27316 sends them without end.
	maxContinuations = 8
)

// breach is a broken rule that costs the whole connection.
type breach struct {
	code   http2.ErrCode
	reason string
	event  Event
}

func (b *breach) Error() string { return b.reason }

func protocol(reason string) error {
	return &breach{code: http2.ErrCodeProtocol, reason: reason, event: EventConnProtocol}
}

func calm(event Event, reason string) error {
	return &breach{code: http2.ErrCodeEnhanceYourCalm, reason: reason, event: event}
}

// read is the reading goroutine. It ends when the transport does or when the peer breaks a rule of the connection.
func (c *Conn) read() {
	defer c.exit()
	defer close(c.readDone)
	err := c.readAll()
	var rule *breach
	if errors.As(err, &rule) {
		c.set.Observe(rule.event)
		c.fail(&ConnError{Code: uint32(rule.code), Reason: rule.reason}, false)
		// Whatever else comes is thrown away until the writer has said why and closes: a socket closed with unread bytes may lose our GOAWAY.
		_, _ = io.Copy(io.Discard, c.br)
	} else {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // nobody may take the end of the connection for the end of a stream
		}
		c.fail(&ConnError{Remote: true, Err: err}, true)
	}
	c.dropRequests()
}

func (c *Conn) readAll() error {
	if !c.client {
		var preface [len(http2.ClientPreface)]byte
		if _, err := io.ReadFull(c.br, preface[:]); err != nil {
			return err
		}
		if string(preface[:]) != http2.ClientPreface {
			return protocol("no HTTP/2 preface")
		}
	}
	for {
		if err := c.readFrame(); err != nil {
			return err
		}
	}
}

// readFrame reads one frame, or one header block with all its frames, and acts on it.
func (c *Conn) readFrame() error {
	fh, err := c.framer.ReadFrameHeader()
	if err != nil {
		return c.frameError(err, false)
	}
	c.ping.frames.Add(1)
	if !c.greeted && fh.Type != http2.FrameSettings && fh.Type != http2.FrameGoAway {
		// A GOAWAY is no greeting either, but servers that turn a connection away begin with it, and it says why.
		return protocol("first frame is not SETTINGS")
	}
	if fh.Type == http2.FrameData {
		return c.readData(fh)
	}
	if fh.Type > http2.FrameContinuation {
		if !c.control.spend(c.set.Control) {
			return calm(EventControlBudget, "too many frames of unknown types")
		}
		return c.skip(int(fh.Length))
	}
	if fh.Length > maxOtherFrame {
		if fh.Type == http2.FrameHeaders || fh.Type == http2.FrameContinuation {
			return calm(EventHeaderLimit, "header block too large")
		}
		return &breach{code: http2.ErrCodeFrameSize, reason: "frame too large", event: EventConnProtocol}
	}
	f, err := c.framer.ReadFrameForHeader(fh)
	if err != nil {
		return c.frameError(err, true)
	}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.readHeaders(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
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

// frameError sorts an error of the Framer: a rule broken on one stream resets that stream and gives nil, one of the connection a breach; anything else
// comes from the transport. inFrame says that the header was read already.
func (c *Conn) frameError(err error, inFrame bool) error {
	var se http2.StreamError
	if errors.As(err, &se) {
		return c.resetPeer(se.StreamID, se.Code, "malformed frame")
	}
	var ce http2.ConnectionError
	if errors.As(err, &ce) {
		reason := "malformed frame"
		if detail := c.framer.ErrorDetail(); detail != nil {
			reason = detail.Error()
		}
		return &breach{code: http2.ErrCode(ce), reason: reason, event: EventConnProtocol}
	}
	var neterr net.Error
	switch {
	case errors.Is(err, http2.ErrFrameTooLarge):
		return &breach{code: http2.ErrCodeFrameSize, reason: "frame too large", event: EventConnProtocol}
	case inFrame && errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &neterr):
		// Either the transport ended within the frame, and what we say is not heard, or its fields reach beyond its length.
		return &breach{code: http2.ErrCodeFrameSize, reason: "frame too short", event: EventConnProtocol}
	}
	return err
}

// resetPeer resets a stream on which the peer broke a rule. It may do so only so often: leading us to reset is an attack too (CVE-2025-8671).
func (c *Conn) resetPeer(id uint32, code http2.ErrCode, reason string) error {
	event := EventStreamProtocol
	if code == http2.ErrCodeRefusedStream {
		event = EventRefusedStream
	}
	c.set.Observe(event)
	if !c.resets.spend(c.set.Resets) {
		return calm(EventResetBudget, "too many streams to reset")
	}
	s := c.lookup(id)
	if s == nil && c.isIdle(id) {
		return &breach{code: code, reason: reason + " on a stream that was never opened", event: EventConnProtocol}
	}
	if err := c.answerFrame(func(f *http2.Framer) error {
		c.forgotten.add(id)
		return f.WriteRSTStream(id, code)
	}); err != nil {
		return err
	}
	if s != nil {
		s.fail(&StreamError{Code: uint32(code), Reason: reason})
	}
	return nil
}

// answerFrame queues a frame that the peer caused, unless the peer leaves too many of them unread.
func (c *Conn) answerFrame(write func(*http2.Framer) error) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	before := c.pending()
	if c.unread > maxUnreadAnswers {
		return calm(EventUnreadAnswers, "answers are not read")
	}
	c.encode(write)
	c.unread += c.pending() - before
	return nil
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

// readHeaders collects the header block that begins with f, decodes it and hands it on.
func (c *Conn) readHeaders(f *http2.HeadersFrame) error {
	id, end := f.StreamID, f.StreamEnded()
	selfish := f.HasPriority() && f.Priority.StreamDep == id
	block := f.HeaderBlockFragment()
	if !f.HeadersEnded() {
		c.block = append(c.block[:0], block...)
		for n := 0; ; n++ {
			if n == maxContinuations || len(c.block) > maxOtherFrame {
				return calm(EventHeaderLimit, "header block too large")
			}
			fh, err := c.framer.ReadFrameHeader()
			if err != nil {
				return c.frameError(err, false)
			}
			if fh.Length > maxOtherFrame {
				return calm(EventHeaderLimit, "header block too large")
			}
			next, err := c.framer.ReadFrameForHeader(fh)
			if err != nil {
				return c.frameError(err, true)
			}
			more, ok := next.(*http2.ContinuationFrame)
			if !ok {
				return protocol("header block interrupted")
			}
			c.block = append(c.block, more.HeaderBlockFragment()...)
			if more.HeadersEnded() {
				break
			}
		}
		block = c.block
	}
	list, err := c.decoder.decode(block)
	if err != nil {
		if errors.Is(err, hpack.ErrStringLength) {
			return calm(EventHeaderLimit, "header field too large")
		}
		return &breach{code: http2.ErrCodeCompression, reason: "header block cannot be decoded", event: EventConnProtocol}
	}
	if selfish && list.malformed == "" {
		list.malformed = "stream depends on itself"
	}
	if c.client {
		return c.onAnswer(id, list, end)
	}
	return c.onRequest(id, list, end)
}
