// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestPing has a peer that answers PINGs for a while and then falls silent.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		start := time.Now()
		var event Event
		s := NewServer(b, Settings{Observe: func(e Event) { event = e }})
		f := http2.NewFramer(a, a)
		go func() {
			_, _ = io.WriteString(a, http2.ClientPreface)
			_ = http2.NewFramer(a, nil).WriteSettings()
		}()
		pings := 0
		for pings < 4 {
			fr, err := f.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			ping, ok := fr.(*http2.PingFrame)
			if !ok {
				continue
			}
			pings++
			if at := time.Since(start); at != time.Duration(pings)*10*time.Second {
				t.Errorf("PING %d at %v", pings, at)
			}
			if pings < 4 {
				if err := f.WritePing(true, ping.Data); err != nil {
					t.Fatal(err)
				}
			}
		}
		<-s.Done()
		if at := time.Since(start); at != 60*time.Second {
			t.Errorf("given up at %v, want 20 s after the fourth PING", at)
		}
		var ce *ConnError
		if !errors.As(s.Err(), &ce) || !ce.Timeout() || !errors.Is(ce, syscall.ECONNRESET) || event != EventSilent {
			t.Errorf("error %v, event %q", s.Err(), event)
		}
	})
}

// TestQuietStreamsLive leaves two ends of ours alone for a day.
func TestQuietStreamsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c, err := NewClient(a, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(b, Settings{})
		x, y := open(t, c, s)
		time.Sleep(24 * time.Hour)
		go func() { _, _ = x.Write([]byte("still here")); _ = x.CloseWrite() }()
		if got, err := io.ReadAll(y); err != nil || string(got) != "still here" {
			t.Errorf("%q, %v", got, err)
		}
		_ = c.Close()
		_ = s.Close()
	})
}

// TestSilentFromTheStart has peers that say nothing at all.
func TestSilentFromTheStart(t *testing.T) {
	for name, make := range map[string]func(net.Conn) (*Conn, error){
		"server": func(nc net.Conn) (*Conn, error) { return NewServer(nc, Settings{}), nil },
		"client": func(nc net.Conn) (*Conn, error) { return NewClient(nc, Settings{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				defer a.Close()
				start := time.Now()
				c, err := make(b)
				if err != nil {
					t.Fatal(err)
				}
				<-c.Done()
				if at := time.Since(start); at != 10*time.Second {
					t.Errorf("given up after %v", at)
				}
			})
		})
	}
}

func TestServerDrainsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c, err := NewClient(a, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(b, Settings{})
		x, y := open(t, c, s)
		time.Sleep(time.Hour)
		if c.Err() != nil {
			t.Fatal("ended a connection with a stream")
		}
		_ = x.Close()
		_ = y.Close()
		start := time.Now()
		<-c.Done()
		<-s.Done()
		if took := time.Since(start); took < 10*time.Minute || took > 10*time.Minute+time.Second {
			t.Errorf("drained after %v", took)
		}
	})
}

// TestClosedStreamIsReset closes a stream whose peer neither sends nor ends.
func TestClosedStreamIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c, err := NewClient(a, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(b, Settings{})
		x, y := open(t, c, s)
		_ = x.Close()
		if _, err := y.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		start := time.Now()
		time.Sleep(9 * time.Second)
		if s.Streams() != 1 {
			t.Error("reset too early")
		}
		time.Sleep(2 * time.Second)
		if _, err := y.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
		if s.Streams() != 0 || c.Streams() != 0 {
			t.Errorf("not reset after %v", time.Since(start))
		}
		_ = c.Close()
		_ = s.Close()
	})
}

// TestSlowFrameIsLife has a frame trickle in for a minute: bytes are signs of life, too.
func TestSlowFrameIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		s := NewServer(b, Settings{})
		go func() { _, _ = io.Copy(io.Discard, a) }()
		go echo(t, s)
		seed := conversation(true) // SETTINGS, WINDOW_UPDATE, a request on stream 1 …
		end := len(seed)
		for at := 0; at < len(seed); {
			n := 9 + (int(seed[at])<<16 | int(seed[at+1])<<8 | int(seed[at+2]))
			if http2.FrameType(seed[at+3]) == http2.FrameData {
				end = at
				break
			}
			at += n
		}
		_, _ = io.WriteString(a, http2.ClientPreface)
		_, _ = a.Write(seed[:end])
		_, _ = a.Write([]byte{0, 0xea, 0x60, byte(http2.FrameData), 0, 0, 0, 0, 1}) // 60000 bytes
		for range 60 {
			if _, err := a.Write(make([]byte, 1000)); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if err := s.Err(); err != nil {
			t.Errorf("connection ended: %v", err)
		}
		_ = a.Close()
		_ = s.Close()
	})
}
