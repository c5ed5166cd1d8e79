// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// TestNothingAfterReset has a peer break a rule on streams that are written to: no DATA may follow the reset.
func TestNothingAfterReset(t *testing.T) {
	p := attack(t, false, Settings{Resets: Budget{Burst: 1 << 30}, Control: Budget{Burst: 1 << 30}, Updates: Budget{Burst: 1 << 30}})
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	p.must(p.WriteWindowUpdate(0, 1<<30))
	bad := 0
	for i := range 300 {
		id := uint32(2*i + 1)
		s := p.connect(id)
		var all sync.WaitGroup
		var n atomic.Int64
		all.Go(func() {
			for {
				if _, err := s.Write([]byte("x")); err != nil {
					return
				}
				n.Add(1)
			}
		})
		for n.Load() < 5 {
		}
		p.must(p.WriteWindowUpdate(id, 0))
		all.Wait()
		_ = s.Close()
	}
	p.must(p.WritePing(false, [8]byte{1}))
	p.saw("PING answer", func(f rawFrame) bool { return f.kind == http2.FramePing && f.ack })
	reset := map[uint32]bool{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		switch {
		case f.kind == http2.FrameRSTStream:
			reset[f.stream] = true
		case f.kind == http2.FrameData && reset[f.stream]:
			bad++
		}
	}
	if bad > 0 {
		t.Errorf("%d DATA frames after RST_STREAM, of %d resets", bad, len(reset))
	}
}
