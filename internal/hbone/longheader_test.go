// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"testing"
	"time"
)

// TestLongHeader sends the longest header that the settings allow.
func TestLongHeader(t *testing.T) {
	p := attack(t, true, Settings{MaxHeaderBytes: 64 << 10})
	go func() {
		_, _, _ = p.conn.Open(t.Context(), "10.0.0.1:80", Header{{"x-long", string(bytes.Repeat([]byte{'~'}, 30000))}})
	}()
	time.Sleep(100 * time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		if f.length > minFrameSize {
			t.Errorf("a frame of %d bytes, although the peer takes %d", f.length, minFrameSize)
		}
	}
}
