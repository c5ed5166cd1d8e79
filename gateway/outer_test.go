// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// clock runs as far ahead of the real one as it is told.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// endsIn sets the clock to d before the end of the client's certificate.
func (c *clock) endsIn(s *scene, d time.Duration) {
	s.t.Helper()
	cert, err := s.source.Certificate(s.t.Context(), clientID)
	if err != nil {
		s.t.Fatal(err)
	}
	c.ahead.Store(int64(time.Until(cert.NotAfter) - d))
}

func TestOuterConnectionEndsWithThePeersCertificate(t *testing.T) {
	var c clock
	s := newScene(t, func(o *Options) { o.Now = c.now })
	s.configure(nil)
	s.add(s.tcp(1, func(nc *net.TCPConn) { _, _ = io.Copy(nc, nc) }))
	s.address(15008) // so that nothing but the handshake takes of the time below
	c.endsIn(s, 2*time.Second)
	conn := s.outer(15008, clientID)
	stream, _, err := conn.Open(t.Context(), authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	s.until("the connection is drained", func() bool { return !conn.Usable() })
	c.endsIn(s, -time.Hour)
	_ = stream.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(stream, "still here"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 10)); err != nil {
		t.Errorf("running stream was cut: %v", err)
	}
}

func TestStreamAfterThePeersCertificateIsRefused(t *testing.T) {
	var c clock
	s := newScene(t, func(o *Options) { o.Now = c.now })
	s.configure(nil)
	s.add(s.pod(1))
	conn := s.outer(15008, clientID)
	if _, _, err := s.call(conn, authority, "x"); err != nil {
		t.Fatal(err)
	}
	c.endsIn(s, -time.Second) // the drain's own timer runs by the real clock, as for a peer that does not heed it
	if status, reason := s.refusal(conn, authority, nil); status != 401 || reason != string(ReasonExpired) {
		t.Errorf("%d %q", status, reason)
	}
}
