// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"testing"

	"golang.org/x/net/http2"
)

// TestHeadersWhileClosing has HEADERS come for a stream whose END_STREAMs are both out, before the goroutine that closed it took it off the table. To the
// client the stream is closed, so it must not matter how far that goroutine got (RFC 9113 §5.1).
func TestHeadersWhileClosing(t *testing.T) {
	p := attack(t, false, Settings{})
	s := p.connect(1)
	p.must(p.WriteData(1, true, nil))
	eventually(t, func() bool { return s.ends.Load()&endRecv != 0 })
	// The first half of CloseWrite.
	p.conn.wmu.Lock()
	p.conn.queueEnd(s)
	s.endWrites(errWriteClosed)
	p.conn.wmu.Unlock()
	p.conn.push()
	p.saw("END_STREAM", func(f rawFrame) bool { return f.kind == http2.FrameData && f.stream == 1 && f.end })
	p.headers(1, true, ":method", "CONNECT", ":authority", rawTarget)
	p.sawGoAway(http2.ErrCodeStreamClosed)
}
