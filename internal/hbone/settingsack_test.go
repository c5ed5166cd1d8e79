// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"testing"

	"golang.org/x/net/http2"
)

// TestSettingsAreAcknowledgedFirst has streams wait for a window that SETTINGS open, byte by byte: whoever reads our frames in order must find the
// acknowledgement before the bytes that it allowed (RFC 9113 §6.5.3).
func TestSettingsAreAcknowledgedFirst(t *testing.T) {
	const streams, windows = 50, 1000
	p := attack(t, false, Settings{})
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	for i := range uint32(streams) {
		s := p.connect(2*i + 1)
		go func() { _, _ = s.Write(make([]byte, windows)) }()
	}
	for window := range uint32(windows) {
		p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window + 1}))
	}

	seen, window := 0, -2 // the greeting and the window of 0 are acknowledged, too
	sent, total := make(map[uint32]int), 0
	eventually(t, func() bool {
		p.mu.Lock()
		frames := p.frames[seen:]
		p.mu.Unlock()
		seen += len(frames)
		for _, f := range frames {
			switch {
			case f.kind == http2.FrameSettings && f.ack:
				window++
			case f.kind == http2.FrameData:
				total += f.length
				if sent[f.stream] += f.length; sent[f.stream] > window {
					t.Fatalf("stream %d sent its byte %d when a window of %d was acknowledged", f.stream, sent[f.stream], window)
				}
			}
		}
		return total == streams*windows
	})
}
