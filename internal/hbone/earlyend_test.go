// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"testing"

	"golang.org/x/net/http2"
)

// TestEarlyEnd ends requests before they are answered, in each way that there is. Two are within this budget of resets, the third is not; streams that end after the answer
// cost nothing.
func TestEarlyEnd(t *testing.T) {
	for name, ask := range map[string]func(p *rawPeer, id uint32){
		"with the request": func(p *rawPeer, id uint32) { p.headers(id, true, ":method", "CONNECT", ":authority", rawTarget) },
		"behind the request": func(p *rawPeer, id uint32) {
			p.headers(id, false, ":method", "CONNECT", ":authority", rawTarget)
			p.must(p.WriteData(id, true, []byte("x")))
		},
		"with trailers": func(p *rawPeer, id uint32) {
			p.headers(id, false, ":method", "CONNECT", ":authority", rawTarget)
			p.headers(id, true, "x-checksum", "0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := attack(t, false, Settings{Resets: Budget{Burst: 2 * earlyEndPrice, PerSecond: 1}})
			id := uint32(1)
			for range 20 {
				s := p.connect(id)
				p.must(p.WriteData(id, true, nil))
				eventually(t, func() bool { return s.ends.Load()&endRecv != 0 })
				_ = s.Close()
				id += 2
			}
			for range 2 {
				ask(p, id)
				id += 2
			}
			p.must(p.WritePing(false, [8]byte{}))
			p.saw("answer to PING", func(f rawFrame) bool { return f.kind == http2.FramePing && f.ack })
			if err := p.conn.Err(); err != nil {
				t.Fatalf("ended within the budget: %v", err)
			}
			ask(p, id)
			p.sawGoAway(http2.ErrCodeEnhanceYourCalm)
			p.sawEvent(EventResetBudget)
		})
	}
}
