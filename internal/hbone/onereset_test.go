// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// TestNothingFollowsAReset has streams reset while other calls on them would queue a frame: a reader that credits what it took, and whoever else found that a closed
// stream is still sent to. A reset is the last frame of its stream.
func TestNothingFollowsAReset(t *testing.T) {
	const rounds = 500
	p := attack(t, false, Settings{StreamWindow: 4, Resets: Budget{Burst: 2 * rounds, PerSecond: 1}})
	for i := range uint32(rounds) {
		id := 2*i + 1
		s := p.connect(id)
		p.must(p.WriteData(id, false, []byte("data")))
		eventually(t, func() bool { return buffered(s) == 4 })
		var all sync.WaitGroup
		switch i % 3 {
		case 0:
			all.Go(func() { _, _ = s.Read(make([]byte, 4)) })
			all.Go(func() { _ = s.Reset(connectErrorCode) })
		case 1: // a Read that has its bytes, and is late to credit them
			_ = s.Reset(connectErrorCode)
			s.mu.Lock()
			s.taken(4)
		default:
			_, _ = s.Read(make([]byte, 4))
			_ = s.Close()
			all.Go(s.dismiss)
			all.Go(s.dismiss)
		}
		all.Wait()
	}
	p.saw("the last reset", func(f rawFrame) bool { return f.kind == http2.FrameRSTStream && f.stream == 2*rounds-1 })
	p.must(p.WritePing(false, [8]byte{1})) // its answer is behind everything
	p.saw("the answer", func(f rawFrame) bool { return f.kind == http2.FramePing && f.ack })
	p.mu.Lock()
	defer p.mu.Unlock()
	over := map[uint32]bool{}
	for _, f := range p.frames {
		if over[f.stream] {
			t.Errorf("%v behind the reset of stream %d", f.kind, f.stream)
		}
		if f.kind == http2.FrameRSTStream {
			over[f.stream] = true
		}
	}
}
