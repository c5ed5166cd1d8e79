// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"

	"golang.org/x/net/http2"
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

var errFrameTooLarge = &breach{code: http2.ErrCodeFrameSize, reason: "frame too large", event: EventConnProtocol}

// frameError sorts an error of the Framer: a rule broken on one stream resets that stream and gives nil, anything else is a breach.
func (c *Conn) frameError(kind http2.FrameType, err error) error {
	var se http2.StreamError
	if errors.As(err, &se) && kind != http2.FrameHeaders { // a header block that is not decoded leaves the compression out of step
		return c.resetPeer(se.StreamID, se.Code, "malformed frame")
	}
	code := se.Code
	if ce, ok := errors.AsType[http2.ConnectionError](err); ok {
		code = http2.ErrCode(ce)
	}
	if code != 0 {
		reason := "malformed frame"
		if detail := c.in.framer.ErrorDetail(); detail != nil {
			reason = detail.Error()
		}
		return &breach{code: code, reason: reason, event: EventConnProtocol}
	}
	// The frame was whole, so its fields reach beyond its length.
	return &breach{code: http2.ErrCodeFrameSize, reason: "frame too short", event: EventConnProtocol}
}

// resetPeer resets a stream on which the peer broke a rule. It may do so only so often: leading us to reset is an attack too (CVE-2025-8671).
func (c *Conn) resetPeer(id uint32, code http2.ErrCode, reason string) error {
	event := EventStreamProtocol
	if code == http2.ErrCodeRefusedStream {
		event = EventRefusedStream
	}
	c.set.Observe(event)
	if !c.in.resets.spend(c.set.Resets) {
		return calm(EventResetBudget, "too many streams to reset")
	}
	s := c.lookup(id)
	if s == nil && c.isIdle(id) {
		return &breach{code: code, reason: reason + " on a stream that was never opened", event: EventConnProtocol}
	}
	cause := &StreamError{Code: uint32(code), Reason: reason}
	c.wmu.Lock()
	var err error
	if s == nil || !s.reset {
		err = c.queueAnswer(func(f *http2.Framer) error {
			c.forget(id)
			return f.WriteRSTStream(id, code)
		})
	}
	if err == nil && s != nil {
		s.reset = true // under the same hold, so that nothing of the stream follows
		if s.werr == nil {
			s.endWrites(cause)
		}
	}
	c.wmu.Unlock()
	if err == nil && s != nil {
		s.fail(cause)
	}
	return err
}

// answerFrame queues a frame that the peer caused, unless the peer leaves too many of them unread.
func (c *Conn) answerFrame(write func(*http2.Framer) error) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.queueAnswer(write)
}

// queueAnswer is answerFrame for who holds wmu.
func (c *Conn) queueAnswer(write func(*http2.Framer) error) error {
	c.in.owes = true
	before := c.pending()
	if c.unread > maxUnreadAnswers {
		return calm(EventUnreadAnswers, "answers are not read")
	}
	c.encode(write)
	c.unread += c.pending() - before
	return nil
}
