// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// full is a network that takes nothing without waiting once it is told so.
type full struct {
	to   net.Conn
	full atomic.Bool
}

func (f *full) tryWrite(p []byte) (int, error) {
	if f.full.Load() {
		return 0, nil
	}
	return f.to.Write(p)
}

// TestLastRecordIsFlushed ends a connection over TLS while the network takes nothing at once: the close_notify has to be sent all the same, and the end
// of the peer be awaited.
func TestLastRecordIsFlushed(t *testing.T) {
	a, b := tcpPair(t)
	f := &full{to: b}
	x, y := bareTLS(a, &Transport{Conn: b, try: f})
	handshake(t, x, y)
	defer x.Close()
	s := NewServer(y, Settings{FlushTimeout: 5 * time.Second})
	f.full.Store(true)
	closed := make(chan struct{})
	go func() { defer close(closed); _ = s.Close() }()
	if _, err := io.ReadAll(x); err != nil {
		t.Errorf("instead of close_notify: %v", err)
	}
	select {
	case <-closed:
		t.Error("the transport was closed without waiting for the peer's end, which may cost it what was sent last")
	case <-time.After(200 * time.Millisecond):
	}
	_ = x.Close()
	<-closed
}
