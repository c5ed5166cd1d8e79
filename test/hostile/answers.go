// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"strings"

	"golang.org/x/net/http2"
)

// answers are what a hostile server can do to a client that asks it for something.
var answers = []Attack{
	{Name: "interim-answers", By: Server, Do: func(p *Peer) {
		for id := p.Asked(); id != 0 && p.More(); {
			p.Headers(id, 0, p.Block(":status", "103"))
		}
	}},
	{Name: "answers-nobody-asked-for", By: Server, Do: func(p *Peer) {
		for id := uint32(1 << 20); p.More(); id += 2 {
			p.Headers(id+1, 0, p.Block(":status", "200"))
		}
	}},
	{Name: "answers-on-even-streams", By: Server, Do: func(p *Peer) {
		for p.More() {
			p.Headers(2, 0, p.Block(":status", "200"))
		}
	}},
	{Name: "answers-twice", By: Server, Do: eachLive(func(p *Peer, id uint32) { p.Headers(id, 0, p.Block(":status", "200")) })},
	{Name: "answers-after-end", By: Server, Do: live(func(p *Peer, id uint32) {
		p.End(id)
		for p.More() {
			p.Headers(id, 0, p.Block(":status", "200"))
		}
	})},
	{Name: "answers-without-status", By: Server, Do: each(func(p *Peer, id uint32) { p.Headers(id, 0, p.Block("a", "b")) })},
	{Name: "no-answers", By: Server, Polite: true, Do: func(*Peer) {}},
	{Name: "resets-instead-of-answers", By: Server, Do: each(func(p *Peer, id uint32) { p.Reset(id, http2.ErrCodeRefusedStream) })},
	{Name: "resets-after-answers", By: Server, Do: eachLive(func(p *Peer, id uint32) { p.Reset(id, http2.ErrCodeInternal) })},
	// The client has to keep what comes before the answer, for it may be one byte away.
	{Name: "data-before-answer", By: Server, Polite: true, Do: func(p *Peer) {
		piece := make([]byte, 8<<10)
		for sent := 0; sent+len(piece) <= Filled; {
			id := p.Asked()
			if id == 0 {
				return
			}
			p.Data(id, piece)
			sent += len(piece)
		}
	}},
	{Name: "data-before-answer-beyond-windows", By: Server, Do: func(p *Peer) {
		piece := make([]byte, 8<<10)
		for id := p.Asked(); id != 0 && p.More(); {
			p.Data(id, piece)
		}
	}},
	{Name: "goaway-at-once", By: Server, Do: func(p *Peer) {
		p.goAway(0, http2.ErrCodeNo, "")
	}},
	{Name: "goaway-before-settings", By: Server, From: Encrypted, Do: func(p *Peer) {
		p.goAway(0, http2.ErrCodeEnhanceYourCalm, strings.Repeat("\xff\n", 50))
	}},
	{Name: "goaway-with-much-to-say", By: Server, Do: func(p *Peer) {
		for p.More() {
			p.goAway(1<<31-1, http2.ErrCodeNo, strings.Repeat("\xf0\x9f", 20<<10))
		}
	}},
	{Name: "goaway-too-short", By: Server, Do: func(p *Peer) {
		for p.More() {
			p.Frame(http2.FrameGoAway, 0, 0, []byte("four"))
		}
	}},
	{Name: "push-setting", By: Server, Do: func(p *Peer) {
		for p.More() {
			p.Settings(http2.Setting{ID: http2.SettingEnablePush, Val: 1})
		}
	}},
	{Name: "no-streams-allowed", By: Server, Polite: true, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
	}},
	// Ends every stream at once, and never listens to the client's end.
	{Name: "ends-at-once", By: Server, Do: eachLive(func(p *Peer, id uint32) { p.End(id) })},
	// Never ends its side, whatever the client does.
	{Name: "never-ends", By: Server, Polite: true, Do: eachLive(func(*Peer, uint32) {})},
}
