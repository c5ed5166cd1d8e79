// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxContinuations is how many CONTINUATION frames one header block may have. With MaxHeaderBytes of 16 KiB one frame is enough for
// every honest peer; the flood of CVE-2024-27316 sends them without end.
const maxContinuations = 8

// headerBlock is a header block whose frames come one by one.
type headerBlock struct {
	open    bool
	id      uint32
	end     bool // of the stream
	selfish bool // the stream depends on itself
	pieces  int  // CONTINUATION frames so far
	b       []byte
}

func (c *Conn) onHeaders(f *http2.HeadersFrame) error {
	block := headerBlock{id: f.StreamID, end: f.StreamEnded(), selfish: f.HasPriority() && f.Priority.StreamDep == f.StreamID}
	if f.HeadersEnded() {
		return c.onBlock(block, f.HeaderBlockFragment())
	}
	block.open = true
	block.b = append(block.b, f.HeaderBlockFragment()...)
	c.in.block = block
	return nil
}

// onContinuation adds to the open block; that there is one, of the same stream, the Framer has checked.
func (c *Conn) onContinuation(f *http2.ContinuationFrame) error {
	block := &c.in.block
	block.pieces++
	if block.pieces > maxContinuations || len(block.b)+len(f.HeaderBlockFragment()) > maxOtherFrame {
		return calm(EventHeaderLimit, "header block too large")
	}
	block.b = append(block.b, f.HeaderBlockFragment()...)
	if !f.HeadersEnded() {
		return nil
	}
	whole := *block
	*block = headerBlock{}
	return c.onBlock(whole, whole.b)
}

// onBlock decodes a whole header block and hands it on.
func (c *Conn) onBlock(block headerBlock, b []byte) error {
	list, err := c.in.decoder.decode(b)
	if err != nil {
		if errors.Is(err, hpack.ErrStringLength) || errors.Is(err, errHeaderBomb) {
			return calm(EventHeaderLimit, "header list far too large")
		}
		return &breach{code: http2.ErrCodeCompression, reason: "header block cannot be decoded", event: EventConnProtocol}
	}
	if block.selfish && list.malformed == "" {
		list.malformed = "stream depends on itself"
	}
	if c.client {
		return c.onAnswer(block.id, list, block.end)
	}
	return c.onRequest(block.id, list, block.end)
}
