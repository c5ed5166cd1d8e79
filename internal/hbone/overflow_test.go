// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"testing"
	"time"
)

// TestTransportHoldsLittle has somebody besides the Conn write to a stuck Transport: TLS answers every key update that its peer asks for.
func TestTransportHoldsLittle(t *testing.T) {
	a, b := tcpPair(t)
	defer a.Close()
	nc := stuckDirect(b)
	s := NewServer(nc, Settings{FlushTimeout: 10 * time.Millisecond})
	defer s.Close()
	answer := make([]byte, 27)
	held := int64(0)
	for range 64 << 20 / len(answer) {
		_, err := nc.Write(answer)
		// One flush may be stuck with as much as waits behind it, and with what the Conn says first of all: its settings.
		if held = max(held, s.under.kept.Load()); held > 2*maxAside+1<<10 {
			break
		}
		if err != nil {
			return
		}
	}
	t.Errorf("%d bytes held, and the connection runs: %v", held, s.Err())
}
