// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"testing"

	"golang.org/x/net/http2"
)

// TestDrainWhileARequestIsJudged has the timer of a drain fire while the reader looks at a request. The GOAWAY must not promise the client to serve what is
// not on the table yet: without other streams the connection ends at once.
func TestDrainWhileARequestIsJudged(t *testing.T) {
	p := attack(t, false, Settings{})
	s := p.connect(1)
	c := p.conn
	c.Drain()
	c.mu.Lock()
	c.opened, c.judging = 3, true // as onRequest does before it judges
	c.mu.Unlock()
	c.sayLast()
	p.saw("second GOAWAY", func(f rawFrame) bool { return f.kind == http2.FrameGoAway && f.stream == 1 })
	if c.enroll(newStream(c, 3)) {
		t.Error("stream 3 is served, and the client was told that it is not")
	}
	p.must(p.WriteData(1, true, []byte("served")))
	eventually(t, func() bool { return s.ends.Load()&endRecv != 0 })
	if err := c.Err(); err != nil {
		t.Errorf("the connection ended: %v", err)
	}
}
