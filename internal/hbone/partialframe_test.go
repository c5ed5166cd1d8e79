// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestReadDoesNotWaitForTheRestOfAFrame sends a part of a frame while somebody else waits to read the connection: what has come is given all the same.
func TestReadDoesNotWaitForTheRestOfAFrame(t *testing.T) {
	p := attack(t, false, Settings{})
	first, second := p.connect(1), p.connect(3)
	reads := func(s *Stream) chan int {
		got := make(chan int, 1)
		go func() {
			n, _ := s.Read(make([]byte, 4<<10))
			got <- n
		}()
		return got
	}
	holder := func(w *waiter) bool {
		s := &p.conn.seat
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.holder == w
	}
	got := reads(first)
	eventually(t, func() bool {
		if holder(&first.w) {
			return true
		}
		p.must(p.WriteData(1, false, []byte("x"))) // whoever reads for all leaves the seat to whom the next bytes are for
		if n := <-got; n != 1 {
			t.Errorf("got %d bytes of 1", n)
		}
		got = reads(first)
		return false
	})
	reads(second)
	eventually(t, func() bool {
		s := &p.conn.seat
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.queue.first != nil
	})

	const size = 8 << 10
	_, err := p.nc.Write([]byte{0, size >> 8, 0, byte(http2.FrameData), 0, 0, 0, 0, 1})
	p.must(err)
	begun := func() bool { return p.conn.inflow.avail.Load() <= 16<<20-size } // the header was read by itself
	eventually(t, begun)
	_, err = p.nc.Write(make([]byte, 100))
	p.must(err)
	select {
	case n := <-got:
		if n != 100 {
			t.Errorf("got %d bytes", n)
		}
	case <-time.After(30 * time.Second):
		t.Error("a hundred bytes are there, and Read waits for more")
	}
	_ = first.Close()
	_ = second.Close()
}
