// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"testing"
	"time"
)

// TestManyResetsAtOnce resets all streams of a connection while their peer is still sending: what was on its way must cost nobody anything.
func TestManyResetsAtOnce(t *testing.T) {
	p := attack(t, false, Settings{Resets: Budget{Burst: 50, PerSecond: 1}})
	const streams = 200
	var running []*Stream
	for i := range uint32(streams) {
		running = append(running, p.connect(2*i+1))
	}
	for _, s := range running[1:] {
		_ = s.Reset(connectErrorCode)
	}
	for range 5 { // as their peer's turns go: each stream once a round
		for i := range uint32(streams) {
			p.must(p.WriteData(2*i+1, false, make([]byte, 100)))
		}
	}
	// Frames are read in order: when this last one is there, all before it have been dealt with.
	p.must(p.WriteData(1, false, make([]byte, 100)))
	eventually(t, func() bool { return buffered(running[0]) == 600 || p.conn.Err() != nil })
	if err := p.conn.Err(); err != nil {
		t.Fatalf("the connection ended: %v", err)
	}
	if left := p.conn.inflow.avail.Load() + p.conn.inflow.taken.Load(); left != 16<<20-600 {
		t.Errorf("window of the connection: %d", left)
	}
}

// TestResetBehindSmallFrames resets a stream while a whole window of it is on its way, in small frames: its peer did nothing wrong, and other streams go on.
func TestResetBehindSmallFrames(t *testing.T) {
	const window = 50 * strayFrame
	p := attack(t, false, Settings{StreamWindow: window})
	gone, other := p.connect(1), p.connect(3)
	_ = gone.Reset(connectErrorCode)
	for range 50 {
		p.must(p.WriteData(1, false, make([]byte, strayFrame)))
	}
	p.must(p.WriteData(1, true, nil))
	p.must(p.WriteData(3, false, []byte("still here")))
	eventually(t, func() bool { return buffered(other) == 10 || p.conn.Err() != nil })
	if err := p.conn.Err(); err != nil {
		t.Fatalf("the connection ended: %v", err)
	}
}

const connectErrorCode = 0xa

// TestDataAfterOurEndIsNoBreach closes a connection whose peer is still sending.
func TestDataAfterOurEndIsNoBreach(t *testing.T) {
	p := attack(t, false, Settings{FlushTimeout: 5 * time.Second})
	p.connect(1)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = p.conn.Close()
	}()
	p.saw("GOAWAY", func(f rawFrame) bool { return f.stream == 1 && f.length == 8+len(reasonClosed) })
	for range 10 {
		p.must(p.WriteData(1, false, make([]byte, 100)))
	}
	_ = p.nc.Close()
	<-closed
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) > 0 {
		t.Errorf("events %v of a peer that did nothing wrong", p.events)
	}
}

func TestAfterReset(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(x *Stream) // at the other side
		want bool
	}{
		"reset":         {func(x *Stream) { _ = x.Reset(2) }, true},
		"lost":          {func(x *Stream) { _ = x.Conn().NetConn().Close() }, true},
		"end":           {func(x *Stream) { _ = x.CloseWrite() }, false},
		"cancel":        {func(x *Stream) { _ = x.Reset(8) }, false},
		"end, and lost": {func(x *Stream) { _ = x.CloseWrite(); _ = x.Conn().Close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := pair(t, Settings{}, Settings{})
			x, y := open(t, c, s)
			called := make(chan struct{})
			stop := y.AfterReset(func() { close(called) })
			test.end(x)
			if test.want {
				<-called
			} else if _, err := y.Read(make([]byte, 1)); err == nil || errors.Is(err, errWriteClosed) {
				t.Errorf("read: %v", err)
			}
			if stop() == test.want {
				t.Errorf("taken back in time: %v", !test.want)
			}
			if test.want {
				again := make(chan struct{})
				y.AfterReset(func() { close(again) })
				<-again
			}
		})
	}
}
