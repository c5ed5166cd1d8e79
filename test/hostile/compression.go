// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"

	"golang.org/x/net/http2"
)

// compression are games with HPACK's table and numbers (RFC 7541).
var compression = []Attack{
	{Name: "table-above-limit", By: either, Do: broken([]byte{0x3f, 0xe2, 0x1f})}, // a size of 4097
	{Name: "integer-without-end", By: either, Do: broken(append([]byte{0xff}, bytes.Repeat([]byte{0xff}, 1000)...))},
	{Name: "integer-unfinished", By: either, Do: broken([]byte{0xff, 0x80, 0x80})},
	{Name: "integer-giant", By: either, Do: broken([]byte{0xff, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})},
	{Name: "index-zero", By: either, Do: broken([]byte{0x80})},
	{Name: "index-beyond-table", By: either, Do: broken([]byte{0xff, 0x20})},
	{Name: "string-longer-than-block", By: either, Do: broken([]byte{0x40, 0x7f, 0x80, 0x01, 'a'})},
	{Name: "huffman-garbage", By: either, Do: broken([]byte{0x40, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, 'a'})}, // the end-of-string symbol
	{Name: "huffman-padding", By: either, Do: broken([]byte{0x40, 0x82, 0x1f, 0x00, 0x01, 'a'})},
	// Legal: the table's size goes up and down thirty thousand times before the request.
	{Name: "many-table-sizes", By: Client, Do: func(p *Peer) {
		sizes := sizeUpdates(30 << 10)
		for p.More() {
			id := p.Next()
			p.Frame(http2.FrameHeaders, 0, id, sizes)
			p.Frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, id, literal(":method", "CONNECT", ":authority", Echo))
			if id := p.Asked(); id != 0 {
				p.End(id)
			}
		}
	}},
	// Legal: each request displaces all that is in the table.
	{Name: "table-churn", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Headers(p.Next(), 0, p.Block(append([]string{":method", "CONNECT", ":authority", Echo}, fields(5, 2500)...)...))
			if id := p.Asked(); id != 0 {
				p.End(id)
			}
		}
	}},
}

// broken sends a block after which the peer cannot know the table any more.
func broken(block []byte) func(*Peer) {
	return func(p *Peer) {
		for p.More() {
			p.Headers(p.spoiled(), 0, block)
		}
	}
}

// sizeUpdates is a block of n bytes that changes the size of the table once per byte, and leaves it at 0: what follows must be literal.
func sizeUpdates(n int) []byte { return bytes.Repeat([]byte{0x21, 0x20}, n/2) }

// literal encodes name, value, name, value… without the table.
func literal(fields ...string) []byte {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		b = append(b, 0x10)
		for _, s := range fields[i : i+2] { // shorter than 127 bytes each
			b = append(append(b, byte(len(s))), s...)
		}
	}
	return b
}
