// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// manyStreams is about what servers allow on one connection.
const manyStreams = 190

// control are frames that move no bytes but have to be answered, or at least looked at.
var control = []Attack{
	{Name: "ping-flood", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Ping(0, "flood")
		}
	}},
	{Name: "ping-answer-flood", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Ping(http2.FlagPingAck, "unasked")
		}
	}},
	// Answers to the PINGs that an hbone.Conn sends, unasked: their payloads can be seen by whoever waits for one.
	{Name: "ping-forged-answer-flood", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Ping(http2.FlagPingAck, "alive")
			p.Ping(http2.FlagPingAck, "drain")
			p.Ping(http2.FlagPingAck, "probe")
		}
	}},
	{Name: "settings-flood", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Settings()
		}
	}},
	{Name: "settings-answer-flood", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
		}
	}},
	// Every stream has to be told of every change.
	{Name: "settings-flapping", By: either, Do: func(p *Peer) {
		p.crowd()
		for p.More() {
			p.Settings(
				http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0},
				http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0},
				http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			p.Settings(
				http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<30 - 1},
				http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1<<32 - 1},
				http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
		}
	}},
	// The same, with as many changes as fit into a frame.
	{Name: "settings-stuffed", By: either, Do: func(p *Peer) {
		p.crowd()
		stuffed := make([]http2.Setting, 5400)
		for i := range stuffed {
			stuffed[i] = http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i%2) * 1000}
		}
		for p.More() {
			p.Settings(stuffed...)
		}
	}},
	{Name: "priority-flood", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Frame(http2.FramePriority, 0, 1001, []byte{0, 0, 0, 1, 15})
		}
	}},
	// Streams that depend on each other in a ring (CVE-2015-8659 and its kin).
	{Name: "priority-ring", By: either, Do: func(p *Peer) {
		for i := uint32(0); p.More(); i++ {
			on := byte(1 + 2*((i+1)%100))
			p.Frame(http2.FramePriority, 0, 1+2*(i%100), []byte{0x80, 0, 0, on, 255})
		}
	}},
	{Name: "unknown-flood", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Frame(0xfa, 0xff, 1, []byte("what"))
		}
	}},
	{Name: "unknown-flood-of-much", By: either, Do: func(p *Peer) {
		much := make([]byte, 1<<20)
		for p.More() {
			p.Frame(0xfa, 0, 0, much)
		}
	}},
	{Name: "goaway-flood", By: either, Do: func(p *Peer) {
		debug := strings.Repeat("\x00\xff\n", 100)
		for i := uint32(1); p.More(); i++ {
			p.goAway(i&(1<<31-1), http2.ErrCodeNo, debug)
		}
	}},
	{Name: "push", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Frame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, append([]byte{0, 0, 0, 2}, p.Block(":method", "GET")...))
		}
	}},
	{Name: "window-flood", By: either, Do: live(func(p *Peer, id uint32) {
		for p.More() {
			p.Window(id, 1)
			p.Window(0, 1)
		}
	})},
	// PINGs whose answers are not read: what cannot be sent must not gather.
	{Name: "unread-pings", By: either, Deaf: true, Do: func(p *Peer) {
		for p.More() {
			p.Ping(0, "unread")
		}
	}},
	// Streams that are over in one round trip, whose answers are not read.
	{Name: "unread-answers", By: Client, Deaf: true, Do: func(p *Peer) {
		for p.Wait(time.Millisecond) {
			for range 100 {
				p.Headers(p.Next(), http2.FlagHeadersEndStream, p.Block(":method", "CONNECT", ":authority", Echo))
			}
		}
	}},
	// A flood that does not stop at GOAWAY.
	{Name: "ping-flood-stubborn", By: either, Stubborn: true, Do: func(p *Peer) {
		for p.More() {
			p.Ping(0, "flood")
		}
	}},
	// Whole frames, so that it is not taken for dead, but one byte at a time.
	{Name: "drip", By: Client, Do: func(p *Peer) {
		for p.Wait(5 * time.Millisecond) {
			p.Head(http2.FramePing, http2.FlagPingAck, 0, 8)
			for range 8 {
				p.Write([]byte{0})
				if !p.Wait(5 * time.Millisecond) {
					return
				}
			}
		}
	}},
}

// crowd opens as many streams as a server allows; a server gets one.
func (p *Peer) crowd() {
	if p.role == Server {
		p.Live()
		return
	}
	for range manyStreams {
		p.Open(Echo)
	}
	for range manyStreams {
		if p.Asked() == 0 {
			return
		}
	}
}

func (p *Peer) goAway(last uint32, code http2.ErrCode, debug string) {
	b := []byte{byte(last >> 24), byte(last >> 16), byte(last >> 8), byte(last), 0, 0, 0, byte(code)}
	p.Frame(http2.FrameGoAway, 0, 0, append(b, debug...))
}
