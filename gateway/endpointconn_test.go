// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// hello is the first flight of a TLS client.
func hello(t *testing.T) []byte {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		_ = tls.Client(near, &tls.Config{ServerName: "cart"}).Handshake() //nolint:gosec // it ends at its first flight
	}()
	defer near.Close()
	defer far.Close()
	flight := make([]byte, 16<<10)
	n, err := far.Read(flight)
	if err != nil {
		t.Fatal(err)
	}
	return flight[:n]
}

// silent takes all that is written, and ends without a word.
type silent struct {
	relay.Conn
	bytes.Buffer
}

func (s *silent) Read([]byte) (int, error)    { return 0, io.EOF }
func (s *silent) Write(p []byte) (int, error) { return s.Buffer.Write(p) }
func (s *silent) CloseWrite() error           { return nil }

// TestWhatSpeaksAgainstAnEndpoint: a client can send what it likes, and shall not get endpoints left out by it.
func TestWhatSpeaksAgainstAnEndpoint(t *testing.T) {
	whole := hello(t)
	long := append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 1<<14)...)
	for name, tc := range map[string]struct {
		writes [][]byte
		late   time.Duration // before the last write
		leave  bool
		stays  bool          // the endpoint says nothing, and does not end
		waits  time.Duration // until the client leaves, or the connection is over
		mute   bool
	}{
		"nothing":                    {},
		"a byte that is no TLS":      {writes: [][]byte{[]byte("x")}},
		"another protocol":           {writes: [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}},
		"a part of a ClientHello":    {writes: [][]byte{whole[:len(whole)-1]}},
		"one too long":               {writes: [][]byte{long, long}},
		"a whole one":                {writes: [][]byte{whole}, mute: true},
		"a whole one and more":       {writes: [][]byte{append(bytes.Clone(whole), "more"...)}, mute: true},
		"one in pieces":              {writes: [][]byte{whole[:3], whole[3:100], whole[100:]}, mute: true},
		"the last byte much later":   {writes: [][]byte{whole[:len(whole)-1], whole[len(whole)-1:]}, late: helloWithin},
		"of a client that leaves":    {writes: [][]byte{whole}, leave: true},
		"one that is kept waiting":   {writes: [][]byte{whole}, stays: true, waits: hush, mute: true},
		"for a moment":               {writes: [][]byte{whole}, stays: true, waits: hush - 1},
		"until its client leaves":    {writes: [][]byte{whole}, stays: true, waits: hush, leave: true, mute: true},
		"who leaves early":           {writes: [][]byte{whole}, stays: true, waits: hush - 1, leave: true},
		"a part that is kept so":     {writes: [][]byte{whole[:len(whole)-1]}, stays: true, waits: time.Hour},
		"nothing for long":           {stays: true, waits: time.Hour, leave: true},
		"a whole one after nonsense": {writes: [][]byte{[]byte("x"), whole}},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			peer := &silent{}
			c := &endpointConn{Conn: peer, answered: func() { t.Error("it answered") }}
			c.owe(func() time.Time { return now })
			var sent []byte
			for i, p := range tc.writes {
				if i == len(tc.writes)-1 {
					now = now.Add(tc.late)
				}
				if _, err := c.Write(p); err != nil {
					t.Fatal(err)
				}
				sent = append(sent, p...)
			}
			now = now.Add(tc.waits)
			if tc.leave {
				_ = c.CloseWrite()
				now = now.Add(hush) // nobody waits any more
			}
			if !tc.stays {
				_, _ = c.Read(make([]byte, 10))
			}
			if c.mute() != tc.mute {
				t.Errorf("mute %v, want %v", c.mute(), tc.mute)
			}
			if !bytes.Equal(peer.Bytes(), sent) {
				t.Errorf("%d bytes went on, want the %d that were sent", peer.Len(), len(sent))
			}
		})
	}
}

// TestEndOfAnOldStreamSaysNothing: that an endpoint answered once is no news when the stream ends.
func TestEndOfAnOldStreamSaysNothing(t *testing.T) {
	s := newScene(t, frozen)
	s.configure(nil)
	s.add(s.echoPod(1))
	stream := s.open(s.outer(15008, clientID))
	if _, err := stream.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	for _, w := range s.server.live.Load().Endpoints(cartKey) {
		s.server.balancer.failed(w.UID)
	}
	stream.Close()
	s.until("the stream is over", func() bool { return s.server.streamQuota.used() == 0 })
	if _, out, _ := s.server.balancer.counts(); out != 1 {
		t.Error("an endpoint that failed since is let in again by the end of a stream that it answered before")
	}
}
