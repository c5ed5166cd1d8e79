// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// maxSettings is how many settings one SETTINGS frame may have. A dozen are defined in all.
const maxSettings = 32

// This file acts on the frames that steer, one method each, all by the holder of the seat.

func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	if !c.in.control.spend(c.set.Control) {
		return calm(EventControlBudget, "too many SETTINGS")
	}
	if f.IsAck() {
		if !c.in.settled {
			return protocol("first frame acknowledges SETTINGS")
		}
		return nil
	}
	if f.NumSettings() > maxSettings { // each may move the windows of all streams
		return calm(EventControlBudget, "too many settings in a frame")
	}
	// Streams cannot come or go between the two locks, so that all of them see the new window once.
	c.mu.Lock()
	c.wmu.Lock()
	err := f.ForeachSetting(func(set http2.Setting) error { return c.applySetting(set) })
	if err == nil {
		// Under the same hold, so that no DATA that the new windows allow leaves ahead of it.
		err = c.queueAnswer(func(f *http2.Framer) error { return f.WriteSettingsAck() })
	}
	c.next()
	c.wmu.Unlock()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if !c.in.settled {
		c.in.settled = true
		c.alive()
	}
	return nil
}

// applySetting takes over one setting of the peer. mu and wmu must be held.
func (c *Conn) applySetting(set http2.Setting) error {
	if set.Valid() != nil {
		code := http2.ErrCodeProtocol
		if set.ID == http2.SettingInitialWindowSize {
			code = http2.ErrCodeFlowControl
		}
		return &breach{code: code, reason: "bad value of " + set.ID.String(), event: EventConnProtocol}
	}
	switch set.ID {
	case http2.SettingInitialWindowSize:
		delta := int64(set.Val) - c.peerWindow
		c.peerWindow = int64(set.Val)
		for _, s := range c.streams {
			if s.outflow+delta > maxWindow {
				return &breach{code: http2.ErrCodeFlowControl, reason: "window above 2^31-1", event: EventConnProtocol}
			}
			s.outflow += delta
			if delta > 0 {
				s.wcond.Broadcast()
			}
		}
	case http2.SettingMaxFrameSize:
		c.setWriteFrame(int(set.Val))
	case http2.SettingMaxConcurrentStreams:
		c.peerMax = set.Val
	case http2.SettingMaxHeaderListSize:
		c.peerHeader = set.Val
	case http2.SettingHeaderTableSize:
		c.encoder.SetMaxDynamicTableSize(min(set.Val, 4096))
	case http2.SettingEnablePush:
		if c.client && set.Val != 0 {
			return protocol("a server cannot enable push")
		}
	}
	return nil
}

func (c *Conn) onPing(f *http2.PingFrame) error {
	if f.StreamID != 0 {
		return protocol("PING on a stream")
	}
	if f.IsAck() && c.isAwaited(f.Data) {
		return nil
	}
	if !c.in.control.spend(c.set.Control) {
		return calm(EventControlBudget, "too many PINGs")
	}
	if f.IsAck() {
		return nil
	}
	data := f.Data
	return c.answerFrame(func(f *http2.Framer) error { return f.WritePing(true, data) })
}

// isAwaited acts on the answer to a PING and says whether that PING was out.
func (c *Conn) isAwaited(answer [8]byte) bool {
	switch answer {
	case pingAlive:
		return c.alive()
	case pingDrain:
		return c.sayLast()
	case pingProbe:
		return c.ping.asked.Swap(nil) != nil
	}
	return false
}

func (c *Conn) onWindowUpdate(fh http2.FrameHeader, payload []byte) error {
	if len(payload) != 4 {
		return &breach{code: http2.ErrCodeFrameSize, reason: "WINDOW_UPDATE of a wrong size", event: EventConnProtocol}
	}
	sent := c.sent.Load()
	c.in.updates.earn(float64(sent-c.in.paidSent)/256, c.set.Updates)
	c.in.paidSent = sent
	if !c.in.updates.spend(c.set.Updates) {
		return calm(EventUpdateBudget, "too many WINDOW_UPDATEs")
	}
	inc := int64(binary.BigEndian.Uint32(payload) & maxWindow)
	if inc == 0 {
		if fh.StreamID == 0 {
			return protocol("increment of 0")
		}
		return c.resetPeer(fh.StreamID, http2.ErrCodeProtocol, "increment of 0")
	}
	if fh.StreamID == 0 {
		c.wmu.Lock()
		defer c.wmu.Unlock()
		if c.outflow+inc > maxWindow {
			return &breach{code: http2.ErrCodeFlowControl, reason: "window above 2^31-1", event: EventConnProtocol}
		}
		c.outflow += inc
		c.pass()
		return nil
	}
	s := c.lookup(fh.StreamID)
	if s == nil {
		if c.isIdle(fh.StreamID) {
			return protocol("WINDOW_UPDATE on a stream that was never opened")
		}
		return nil
	}
	c.wmu.Lock()
	over := s.outflow+inc > maxWindow
	if !over {
		s.outflow += inc
		s.wcond.Broadcast()
	}
	c.wmu.Unlock()
	if over {
		return c.resetPeer(s.id, http2.ErrCodeFlowControl, "window above 2^31-1")
	}
	return nil
}

func (c *Conn) onReset(f *http2.RSTStreamFrame) error {
	s := c.lookup(f.StreamID)
	if s == nil {
		if c.isIdle(f.StreamID) {
			return protocol("RST_STREAM on a stream that was never opened")
		}
		if !c.in.control.spend(c.set.Control) {
			return calm(EventControlBudget, "too many RST_STREAMs")
		}
		return nil
	}
	if s.request != nil && !s.request.answered.Load() && !c.in.resets.spend(c.set.Resets) {
		return calm(EventResetBudget, "too many streams reset before their answer")
	}
	var err error = &StreamError{Code: uint32(f.ErrCode), Remote: true}
	if f.ErrCode == http2.ErrCodeRefusedStream {
		err = &UnprocessedError{Err: err}
	}
	s.fail(err)
	return nil
}

func (c *Conn) onPriority(f *http2.PriorityFrame) error {
	if !c.in.control.spend(c.set.Control) {
		return calm(EventControlBudget, "too many PRIORITY frames")
	}
	if f.StreamDep == f.StreamID {
		if c.lookup(f.StreamID) != nil {
			return c.resetPeer(f.StreamID, http2.ErrCodeProtocol, "stream depends on itself")
		}
		return protocol("stream depends on itself")
	}
	return nil
}

func (c *Conn) onGoAway(f *http2.GoAwayFrame) error {
	if f.StreamID != 0 {
		return protocol("GOAWAY on a stream")
	}
	if !c.in.control.spend(c.set.Control) {
		return calm(EventControlBudget, "too many GOAWAYs")
	}
	if !c.client {
		return nil // the client opens no more, that is all
	}
	cause := &ConnError{Code: uint32(f.ErrCode), Remote: true, Reason: goAwayReason(f.DebugData())}
	c.mu.Lock()
	c.left = true
	var unserved []*Stream
	for id, s := range c.streams {
		if id > f.LastStreamID {
			unserved = append(unserved, s)
		}
	}
	c.mu.Unlock()
	for _, s := range unserved {
		s.fail(&UnprocessedError{Err: cause})
	}
	c.mu.Lock()
	c.endIfDrained()
	c.mu.Unlock()
	return nil
}

// goAwayReason makes a peer's debug data fit for a log line.
func goAwayReason(data []byte) string {
	text := []byte("GOAWAY")
	for i, b := range data {
		if i == 0 {
			text = append(text, ": "...)
		}
		if i == 100 {
			break
		}
		if b < ' ' || b > '~' {
			b = '?'
		}
		text = append(text, b)
	}
	return string(text)
}
