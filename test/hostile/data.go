// SPDX-License-Identifier: Apache-2.0

package hostile

import "golang.org/x/net/http2"

// data are DATA frames that carry nothing, too much, or go where nobody is.
var data = []Attack{
	{Name: "empty-data", By: either, Do: live(func(p *Peer, id uint32) {
		for p.More() {
			p.Data(id, nil)
		}
	})},
	{Name: "padding-only", By: either, Do: live(func(p *Peer, id uint32) {
		padded := make([]byte, 256)
		padded[0] = 255
		for p.More() {
			p.Frame(http2.FrameData, http2.FlagDataPadded, id, padded)
		}
	})},
	// One byte per frame: legal, and ten times as many bytes of headers.
	{Name: "tiny-data", By: either, Do: func(p *Peer) {
		p.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}) // it may send them all back
		p.Window(0, 1<<31-1-65535)
		live(func(p *Peer, id uint32) {
			for p.More() {
				p.Data(id, []byte{1})
			}
		})(p)
	}},
	// The same on a stream that the peer has reset: it throws the bytes away and gives the window back.
	{Name: "tiny-data-after-reset", By: either, Do: live(func(p *Peer, id uint32) {
		p.Window(id, 0)
		for p.More() {
			p.Data(id, []byte{1})
		}
	})},
	// On one that ended in order.
	{Name: "data-after-end", By: Client, Do: live(func(p *Peer, id uint32) {
		p.End(id)
		for p.More() {
			p.Data(id, []byte{1})
		}
	})},
	{Name: "data-on-idle-stream", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Data(1<<20+1, []byte{1})
		}
	}},
	{Name: "data-on-stream-0", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Data(0, []byte{1})
		}
	}},
	{Name: "padding-longer-than-data", By: either, Do: eachLive(func(p *Peer, id uint32) { p.Frame(http2.FrameData, http2.FlagDataPadded, id, []byte{200, 1}) })},
	{Name: "oversized-data", By: either, Do: live(func(p *Peer, id uint32) {
		p.Head(http2.FrameData, 0, id, 1<<24-1)
		much := make([]byte, 16<<10)
		for p.More() {
			p.Write(much)
		}
	})},
	{Name: "bad-length", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Frame(http2.FrameSettings, 0, 0, []byte("seven.."))
		}
	}},
	{Name: "even-streams", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Headers(2, 0, p.Block(":method", "CONNECT", ":authority", Echo))
		}
	}},
	{Name: "streams-backwards", By: Client, Do: func(p *Peer) {
		for id := uint32(1<<31 - 1); p.More(); id -= 2 {
			p.Headers(id, http2.FlagHeadersEndStream, p.Block(":method", "CONNECT", ":authority", Echo))
		}
	}},
	{Name: "no-preface", By: Client, From: Encrypted, Do: func(p *Peer) {
		for p.More() {
			p.Write([]byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"))
		}
	}},
	{Name: "no-settings", By: either, From: Encrypted, Do: func(p *Peer) {
		if p.role == Client {
			p.Write([]byte(http2.ClientPreface))
		}
		for p.More() {
			p.Ping(0, "hello")
		}
	}},
}
