// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// fullOnce is a socket that takes nothing while full is set.
type fullOnce struct {
	net.Conn
	full bool
}

func (f *fullOnce) tryWrite(p []byte) (int, error) {
	if f.full {
		return 0, nil
	}
	return f.Conn.Write(p)
}

// TestWhatTLSSaysByItselfIsSent has TLS answer a key update while the socket takes nothing: nobody but the Transport knows, and the peer may wait for it.
func TestWhatTLSSaysByItselfIsSent(t *testing.T) {
	a, b := tcpPair(t)
	below := &fullOnce{Conn: a}
	transport := &Transport{Conn: below, try: below}
	c, err := NewClient(transport, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer b.Close()
	_ = b.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(b, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(io.Discard, b)
	for range 2 { // SETTINGS, WINDOW_UPDATE
		if _, err := f.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	transport.mu.Lock() // as Write does
	below.full = true
	transport.mu.Unlock()
	if _, err := transport.Write([]byte("answer")); err != nil { // as TLS does in its Read
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.LimitReader(b, 6)); string(got) != "answer" {
		t.Errorf("got %q, %v", got, err)
	}
}
