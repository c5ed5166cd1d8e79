// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestStalledReader has 100 streams on one connection, one of which nobody reads: it must not stop the others.
func TestStalledReader(t *testing.T) {
	const window = 256 << 10 // a sixteenth of the default, and of its ratio to the connection's
	c, s := pair(t, Settings{}, Settings{StreamWindow: window, ConnWindow: 4 * window})
	stalled, unread := open(t, c, s)
	var stuck sync.WaitGroup
	stuck.Go(func() {
		_, _ = stalled.Write(make([]byte, 64*window)) // ends by the reset below
	})
	eventually(t, func() bool { return buffered(unread) == window })

	data := bytes.Repeat([]byte("n"), window/4)
	var all sync.WaitGroup
	for range 99 {
		x, y := open(t, c, s)
		all.Go(func() {
			for range 8 { // twice the window, so that it has to be renewed
				if _, err := x.Write(data); err != nil {
					t.Error(err)
				}
			}
			_ = x.CloseWrite()
		})
		all.Go(func() {
			if n, err := io.Copy(io.Discard, y); err != nil || n != 2*window {
				t.Errorf("%d bytes, error %v", n, err)
			}
			_ = y.Close()
		})
	}
	all.Wait()
	if n := buffered(unread); n != window {
		t.Errorf("%d bytes buffered for the stalled one", n)
	}
	_ = unread.Reset(0)
	stuck.Wait()
	eventually(t, func() bool { return c.Streams() <= 99 && s.Streams() == 0 })
}

func buffered(s *Stream) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.size
}

// TestWindowComesBack drops received bytes in every way there is; the connection's window must be whole again after each.
func TestWindowComesBack(t *testing.T) {
	for name, drop := range map[string]func(s *Stream){
		"read":  func(s *Stream) { _, _ = io.ReadFull(s, make([]byte, 3<<20)) },
		"close": func(s *Stream) { _ = s.Close() },
		"reset": func(s *Stream) { _ = s.Reset(2) },
		"reset while being read": func(s *Stream) {
			p, done := make([]byte, 3<<20), make(chan struct{})
			go func() {
				defer close(done)
				_, _ = s.Read(p) // piece by piece, for longer than we take to notice
			}()
			for buffered(s) == 3<<20 {
				runtime.Gosched()
			}
			_ = s.Reset(2)
			<-done
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := pair(t, Settings{}, Settings{ConnWindow: 4 << 20})
			for range 10 {
				x, y := open(t, c, s)
				_ = x.SetWriteDeadline(time.Now().Add(10 * time.Second)) // a window that shrank stops the writer
				if _, err := x.Write(make([]byte, 3<<20)); err != nil {
					t.Fatal(err)
				}
				eventually(t, func() bool { return buffered(y) == 3<<20 })
				drop(y)
				_ = x.Reset(2)
				_ = y.Reset(2)
			}
			if left := s.inflow.avail.Load() + s.inflow.taken.Load(); left != 4<<20 {
				t.Errorf("window of the connection: %d", left)
			}
		})
	}
}

// TestUnansweredBytesComeBack has a client send before the answer and then reset.
func TestUnansweredBytesComeBack(t *testing.T) {
	p := attack(t, false, Settings{})
	for id := uint32(1); id < 41; id += 2 {
		p.headers(id, false, ":method", "CONNECT", ":authority", rawTarget)
		p.must(p.WriteData(id, false, make([]byte, 1<<20)))
		p.must(p.WriteRSTStream(id, http2.ErrCodeCancel))
		// The application has nothing to do with requests that are over.
		eventually(t, func() bool { return !p.conn.isIdle(id) && p.conn.Streams() == 0 })
	}
	s := p.connect(41)
	if left := p.conn.inflow.avail.Load() + p.conn.inflow.taken.Load(); left != 16<<20 {
		t.Errorf("window of the connection: %d", left)
	}
	_ = s.Close()
}

// TestPaddingIsCredited has a peer send more padding than the window has bytes.
func TestPaddingIsCredited(t *testing.T) {
	p := attack(t, false, Settings{StreamWindow: 4096, ConnWindow: 65535})
	s := p.connect(1)
	go func() {
		for range 1000 {
			_ = p.WriteDataPadded(1, false, []byte("x"), make([]byte, 255))
			eventuallyCredited(p, 1000)
		}
		_ = p.WriteData(1, true, nil)
	}()
	got, err := io.ReadAll(s)
	if err != nil || len(got) != 1000 {
		t.Errorf("%d bytes, error %v; connection: %v", len(got), err, p.conn.Err())
	}
}

// eventuallyCredited waits until the stream's window has room for another frame of up to n bytes.
func eventuallyCredited(p *rawPeer, n int64) {
	s := p.conn.lookup(1)
	for s != nil {
		s.mu.Lock()
		avail := s.inflow.avail
		s.mu.Unlock()
		if avail > n {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// TestPeerWindows has a peer with small windows, who changes its mind.
func TestPeerWindows(t *testing.T) {
	p := attack(t, false, Settings{})
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}))
	s := p.connect(1)
	written := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 100))
		written <- err
	}()
	total := func(n int) func(rawFrame) bool {
		return func(rawFrame) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			sum := 0
			for _, f := range p.frames {
				if f.kind == http2.FrameData {
					sum += f.length
				}
			}
			return sum == n
		}
	}
	p.saw("10 bytes", total(10))
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})) // 10 in debt
	p.must(p.WriteWindowUpdate(1, 10))                                                 // debt paid, nothing more
	p.must(p.WritePing(false, [8]byte{1}))
	p.saw("answer to the PING", func(f rawFrame) bool { return f.kind == http2.FramePing && f.ack })
	p.saw("still 10 bytes", total(10))
	p.must(p.WriteWindowUpdate(1, 30))
	p.saw("40 bytes", total(40))
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 60}))
	p.saw("100 bytes", total(100))
	p.must(<-written)
}

// TestStalledReadersLeaveRoom stalls three streams with full windows and a fourth with one byte: the rest of the connection's window must stay in use.
func TestStalledReadersLeaveRoom(t *testing.T) {
	c, s := pair(t, Settings{}, Settings{})
	for _, n := range []int{4 << 20, 4 << 20, 4 << 20, 1} {
		x, y := open(t, c, s)
		if _, err := x.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return buffered(y) == n })
	}
	x, y := open(t, c, s)
	_ = x.SetWriteDeadline(time.Now().Add(10 * time.Second))
	got := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, y)
		got <- n
	}()
	n, err := x.Write(make([]byte, 32<<20))
	if err != nil {
		t.Fatalf("a neighbour of stalled streams wrote %d bytes, error %v", n, err)
	}
	_ = x.CloseWrite()
	if n := <-got; n != 32<<20 {
		t.Errorf("%d bytes arrived", n)
	}
}
