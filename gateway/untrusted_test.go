// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net"
	"testing"
)

// A client whose root is taken away loses its streams, and the log says why; others keep theirs.
func TestTrustThatIsTakenAwayEndsStreams(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.tcp(1, func(nc *net.TCPConn) { _, _ = io.Copy(nc, nc) }))
	outer := s.outer(15008, clientID)
	stream, _, err := outer.Open(t.Context(), authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	say := func() error {
		if _, err := io.WriteString(stream, "x"); err != nil {
			return err
		}
		_, err := io.ReadFull(stream, make([]byte, 1))
		return err
	}
	if err := say(); err != nil {
		t.Fatal(err)
	}
	if err := s.source.SetBundle("strange.example", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := say(); err != nil {
		t.Fatalf("after another domain lost its trust: %v", err)
	}
	if err := s.source.SetBundle("cluster.local", newIssuer(t).roots(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stream); err == nil {
		t.Error("the stream ended as if nothing had been wrong")
	}
	s.until("the end is logged", func() bool { return len(s.logs.access()) == 1 })
	if got := s.logs.access()[0]["reason"]; got != string(ReasonUntrusted) {
		t.Errorf("reason %v", got)
	}
}
