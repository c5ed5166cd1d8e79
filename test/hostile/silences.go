// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"time"

	"golang.org/x/net/http2"
)

// silences are connections on which something begins and does not go on.
var silences = []Attack{
	{Name: "silent-after-connect", By: Client, From: Connected, Do: func(*Peer) {}},
	{Name: "silent-in-handshake", By: Client, From: Connected, Do: func(p *Peer) { p.Write(clientHello()[:100]) }},
	{Name: "silent-after-hello", By: Client, From: Connected, Do: func(p *Peer) { p.Write(clientHello()) }},
	{Name: "silent-after-handshake", By: either, From: Encrypted, Do: func(*Peer) {}},
	{Name: "silent-in-preface", By: Client, From: Encrypted, Do: func(p *Peer) { p.Write([]byte(http2.ClientPreface[:10])) }},
	{Name: "silent-after-preface", By: Client, From: Encrypted, Do: func(p *Peer) { p.Write([]byte(http2.ClientPreface)) }},
	{Name: "silent-in-settings", By: either, From: Encrypted, Do: func(p *Peer) {
		if p.role == Client {
			p.Write([]byte(http2.ClientPreface))
		}
		p.Head(http2.FrameSettings, 0, 0, 600)
		p.Write(make([]byte, 100))
	}},
	{Name: "silent-after-settings", By: either, Do: func(*Peer) {}},
	{Name: "silent-in-head", By: either, Do: func(p *Peer) { p.Write(make([]byte, 5)) }},
	{Name: "silent-in-headers", By: either, Do: func(p *Peer) {
		p.Head(http2.FrameHeaders, http2.FlagHeadersEndHeaders, p.spoiled(), 100)
		p.Write([]byte{0x82})
	}},
	{Name: "silent-between-headers", By: either, Do: func(p *Peer) { p.begin([]byte{0x82}) }},
	{Name: "silent-in-data", By: either, Do: live(func(p *Peer, id uint32) {
		p.Head(http2.FrameData, 0, id, 1<<20)
		p.Write(make([]byte, 100))
	})},
	{Name: "silent-with-streams", By: Client, Do: func(p *Peer) {
		for range manyStreams {
			p.Open(Echo)
		}
	}},
	// A byte now and then, of something that will never be whole.
	{Name: "drip-in-preface", By: Client, From: Encrypted, Do: drip},
	{Name: "drip-in-headers", By: either, Do: func(p *Peer) {
		p.Head(http2.FrameHeaders, http2.FlagHeadersEndHeaders, p.spoiled(), 16<<10)
		drip(p)
	}},
	{Name: "drip-in-handshake", By: Client, From: Connected, Do: func(p *Peer) {
		for i := 0; i < len(clientHello()) && p.Wait(20*time.Millisecond); i++ {
			p.Write(clientHello()[i : i+1])
		}
	}},
	// Answers PINGs, so it is there, but not the one by which a server drains.
	{Name: "stays-when-drained", By: Client, Do: func(p *Peer) {
		for {
			p.Flush()
			select {
			case payload := <-p.pings:
				if payload != [8]byte{'d', 'r', 'a', 'i', 'n'} {
					p.Frame(http2.FramePing, http2.FlagPingAck, 0, payload[:])
				}
			case <-p.ctx.Done():
				return
			case <-p.ended:
				return
			}
		}
	}},
}

func drip(p *Peer) {
	for i := 0; p.Wait(20 * time.Millisecond); i++ {
		p.Write([]byte(http2.ClientPreface[i%len(http2.ClientPreface):][:1]))
	}
}
