// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/socket"
)

// sluice is a network that lets as many bytes through as it is told to. What came is in it.
type sluice struct {
	net.Conn
	mu   sync.Mutex
	cond sync.Cond
	came []byte
	open int // bytes of came that may be read
	err  error
	last int // how many bytes were asked for last
	most int // and at most
}

func newSluice(nc net.Conn) *sluice {
	s := &sluice{Conn: nc, open: 1 << 30}
	s.cond.L = &s.mu
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := nc.Read(b)
			s.mu.Lock()
			s.came = append(s.came, b[:n]...)
			s.err = err
			s.cond.Broadcast()
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *sluice) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.most = len(p), max(s.most, len(p))
	for min(len(s.came), s.open) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.cond.Wait()
	}
	n := copy(p, s.came[:min(len(s.came), s.open)])
	s.came = s.came[n:]
	s.open -= n
	return n, nil
}

// let opens the sluice for n more bytes.
func (s *sluice) let(n int) {
	s.mu.Lock()
	s.open = n
	s.cond.Broadcast()
	s.mu.Unlock()
}

func (s *sluice) state() (waiting, last, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.came), s.last, s.most
}

// TestBulkIsTakenAlong has a stream read what lies ready for it: in large pieces, without waiting for the rest of a record, and with no buffer left behind.
func TestBulkIsTakenAlong(t *testing.T) {
	a, b := tcpPair(t)
	slow := newSluice(b)
	x, y := bareTLS(NewTransport(a), &Transport{Conn: slow, try: socketWriter{socket.Of(b)}})
	c, s := join(t, x, y, Settings{PingInterval: -1}, Settings{PingInterval: -1})
	to, from := open(t, c, s)
	// Of two streams, so that there are frames of somebody else in between.
	other, _ := open(t, c, s)

	const size = 1 << 20
	want := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(want)
	slow.let(0)
	for part := range 4 {
		if _, err := to.Write(want[part*size/4 : (part+1)*size/4]); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Write([]byte("meanwhile")); err != nil {
			t.Fatal(err)
		}
	}
	waiting := 0
	eventually(t, func() bool {
		waiting, _, _ = slow.state()
		return waiting > size
	})

	const behind = 10_000 // bytes that come later: less than a record
	slow.let(waiting - behind)
	var got []byte
	buf := make([]byte, size)
	reads := 0
	for len(got) < size-behind-tlsRecord {
		n, err := from.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
		reads++
	}
	if reads > size/tlsRecord/3 {
		t.Errorf("%d reads for %d bytes that were here", reads, len(got))
	}
	if _, _, most := slow.state(); most < aheadSize {
		t.Errorf("the network was asked for %d bytes at most", most)
	}
	slow.let(1 << 30)
	rest := make([]byte, size-len(got))
	if _, err := io.ReadFull(from, rest); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, rest...), want) {
		t.Error("other bytes than were sent")
	}
	for range 2 { // the first may come with the rest
		if _, err := to.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(from, buf[:1]); err != nil {
			t.Fatal(err)
		}
	}
	// Whoever reads next waits with the buffer that TLS has.
	eventually(t, func() bool {
		_, last, _ := slow.state()
		return last < aheadSize
	})
}

// TestBuffersAheadAreBounded has as many connections read ahead as may: the next one reads as TLS asks, until one of them is done.
func TestBuffersAheadAreBounded(t *testing.T) {
	held := make([]aheadBuffer, maxAheads)
	for i := range held {
		if !held[i].hold() {
			t.Fatalf("connection %d gets no buffer", i)
		}
	}
	var next aheadBuffer
	if next.hold() {
		t.Error("one more than there may be")
	}
	held[0].drop()
	if !next.hold() {
		t.Error("one is free, and nobody gets it")
	}
	next.drop()
	for i := range held[1:] {
		held[1+i].drop()
	}
}

// TestBufferAheadEndsWithItsConnection closes a connection that has bytes which TLS never asks for.
func TestBufferAheadEndsWithItsConnection(t *testing.T) {
	eventually(t, func() bool { return aheadsOut.Load() == 0 }) // connections of earlier tests have ended
	a, b := tcpPair(t)
	slow := newSluice(b)
	x, y := bareTLS(NewTransport(a), &Transport{Conn: slow, try: socketWriter{socket.Of(b)}})
	c, s := join(t, x, y, Settings{PingInterval: -1}, Settings{PingInterval: -1, FlushTimeout: 10 * time.Millisecond})
	to, from := open(t, c, s)
	slow.let(0)
	if _, err := to.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		waiting, _, _ := slow.state()
		return waiting > 1<<20
	})
	slow.let(1 << 30)
	for aheadsOut.Load() == 0 {
		if _, err := from.Read(make([]byte, tlsRecord)); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	<-s.Done()
	eventually(t, func() bool { return aheadsOut.Load() == 0 })
}
