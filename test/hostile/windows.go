// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"time"

	"golang.org/x/net/http2"
)

// windows are games with flow control: to send more than is allowed, or to let the peer send little, so that it must keep what it has.
var windows = []Attack{
	{Name: "window-zero-increment", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Window(0, 0)
		}
	}},
	{Name: "window-overflow", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Window(0, 1<<31-1)
		}
	}},
	{Name: "window-of-idle-stream", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Window(1<<20+1, 1)
		}
	}},
	{Name: "settings-window-overflow", By: either, Do: live(func(p *Peer, id uint32) {
		p.Window(id, 1<<30)
		for p.More() {
			p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}
	})},
	// More DATA than the windows of the peer, while it cannot send back what it echoes.
	{Name: "data-beyond-windows", By: either, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		piece := make([]byte, 8<<10)
		eachLive(func(p *Peer, id uint32) {
			for range 4 {
				p.Data(id, piece)
			}
		})(p)
	}},
	// Just as much as the windows allow: FillWindows says how much that is.
	{Name: "fill-windows", By: either, Polite: true, Do: func(p *Peer) { p.fill(8 << 10) }},
	// The same in frames that are just too large for the smaller of two buffers.
	{Name: "fill-windows-unevenly", By: either, Polite: true, Do: func(p *Peer) { p.fill(16<<10 + 1) }},
	// A byte on each of many streams.
	{Name: "a-byte-on-each-stream", By: Client, Polite: true, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for range manyStreams {
			id := p.Live()
			if id == 0 {
				return
			}
			p.Data(id, []byte{1})
			p.Data(id, []byte{1})
		}
	}},
	// The peer may send, but byte by byte.
	{Name: "tiny-windows", By: either, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		live(func(p *Peer, id uint32) {
			p.Data(id, make([]byte, 16<<10))
			for p.More() {
				p.Window(id, 1)
			}
		})(p)
	}},
	// The peer may never send: its streams wait for ever.
	{Name: "zero-windows", By: Client, Polite: true, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for range manyStreams {
			p.Open(Talker)
		}
	}},
	// The peer may send what it likes, but nobody reads.
	{Name: "unread-data", By: either, Deaf: true, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		p.Window(0, 1<<30)
		if p.role == Server {
			if !p.Wait(250 * time.Millisecond) { // the deaf have to guess when they are asked, and on which streams
				return
			}
			for id := uint32(1); id < 8; id += 2 {
				p.Headers(id, 0, p.Block(":status", "200"))
			}
			return
		}
		for range manyStreams {
			p.Open(Talker)
		}
	}},
	// Somebody reads, a little at a time.
	{Name: "slow-reads", By: Client, Deaf: true, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		p.Window(0, 1<<30)
		for range manyStreams {
			p.Open(Talker)
		}
		one := make([]byte, 100)
		for p.Wait(5 * time.Millisecond) {
			if _, err := p.Conn.Read(one); err != nil {
				return
			}
		}
	}},
	// MaxStreams streams that nobody answers and nobody gives up.
	{Name: "open-and-abandon", By: Client, Polite: true, Do: func(p *Peer) {
		for range manyStreams {
			p.Open(Mute)
		}
	}},
	// Streams on which one side has ended, and the other never does.
	{Name: "half-closed", By: Client, Polite: true, Do: func(p *Peer) {
		for range manyStreams {
			p.Open(Talker)
		}
		for id := p.Asked(); id != 0; id = p.Asked() {
			p.End(id)
		}
	}},
	// The same before the answer.
	{Name: "ended-early", By: Client, Polite: true, Do: func(p *Peer) {
		for range manyStreams {
			p.End(p.Open(Mute))
		}
	}},
}

// Filled is how many bytes fill-windows and fill-windows-unevenly send on a connection at most. The windows of the peer must allow for that: a
// connection's of a megabyte, a stream's of at least 20 KiB.
const Filled = 1<<20 - 20<<10

func (p *Peer) fill(frame int) {
	p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	piece := make([]byte, frame)
	for sent := 0; sent+frame <= Filled; sent += frame {
		id := p.Live()
		if id == 0 {
			return
		}
		p.Data(id, piece)
	}
}
