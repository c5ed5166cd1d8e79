// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// longPath is one end of a path that has a rate and a length, in the time of a synctest bubble. What is written leaves at the rate, and arrives later by the delay.
type longPath struct {
	net.Conn // one end of a pipe, for all but reading and writing
	out, in  *lane
}

func newLongPath(rate float64, delay time.Duration) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	there, back := newLane(rate, delay), newLane(rate, delay)
	return &longPath{a, there, back}, &longPath{b, back, there}
}

func (l *longPath) Read(p []byte) (int, error)  { return l.in.read(p) }
func (l *longPath) Write(p []byte) (int, error) { return l.out.write(p) }
func (l *longPath) Close() error {
	l.in.close()
	l.out.close()
	return l.Conn.Close()
}
func (l *longPath) SetReadDeadline(t time.Time) error { return l.in.limit(t) }

// lane is one direction.
type lane struct {
	rate  float64 // bytes per second
	delay time.Duration

	mu      sync.Mutex
	changed sync.Cond
	sent    []parcel
	free    time.Time // when the last byte has left
	until   time.Time // the reader's deadline
	closed  bool
}

// parcel is what one write sent, and when it arrives.
type parcel struct {
	b  []byte
	at time.Time
}

func newLane(rate float64, delay time.Duration) *lane {
	l := &lane{rate: rate, delay: delay}
	l.changed.L = &l.mu
	return l
}

func (l *lane) write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, net.ErrClosed
	}
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(len(p)) / l.rate * 1e9))
	l.sent = append(l.sent, parcel{append([]byte(nil), p...), l.free.Add(l.delay)})
	wait := time.Until(l.free)
	time.AfterFunc(wait+l.delay, l.changed.Broadcast)
	l.mu.Unlock()
	time.Sleep(wait) // the sender's socket is as small as that
	l.mu.Lock()
	return len(p), nil
}

func (l *lane) read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closed:
			return 0, io.EOF
		case !l.until.IsZero() && !time.Now().Before(l.until):
			return 0, os.ErrDeadlineExceeded
		case len(l.sent) > 0 && !time.Now().Before(l.sent[0].at):
			n := copy(p, l.sent[0].b)
			if l.sent[0].b = l.sent[0].b[n:]; len(l.sent[0].b) == 0 {
				l.sent = l.sent[1:]
			}
			return n, nil
		}
		l.changed.Wait()
	}
}

func (l *lane) limit(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = t
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), l.changed.Broadcast)
	}
	l.changed.Broadcast()
	return nil
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
}

// TestOneStreamFillsALongPath sends 100 MB over 1 Gbit/s of 100 ms round trip. The windows that the docstring of Settings derives for it must keep the path full, and the
// default ones, which are made for 25 ms, must give what arithmetic says: three quarters of a window to a whole one, depending on what was taken and not
// announced when the sender stopped, in each round trip and the time in which a quarter is sent.
func TestOneStreamFillsALongPath(t *testing.T) {
	const rate, roundTrip, size = 1e9 / 8, 100 * time.Millisecond, 100 << 20
	for _, tc := range []struct {
		name        string
		set         Settings
		least, most float64 // of the path's rate
	}{
		{"windows for the path", Settings{StreamWindow: 16 << 20, ConnWindow: 64 << 20}, 0.97, 1},
		{"default windows", Settings{}, 0.23, 0.31}, // 3/4 to all of 4 MiB in each 0.1 s + 4 MiB/4/rate: 29.0e6 to 38.7e6 of 125e6 bytes/s
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newLongPath(rate, roundTrip/2)
				c, s := join(t, a, b, tc.set, tc.set)
				x, y := open(t, c, s)
				begin := time.Now()
				done := make(chan int64, 1)
				go func() {
					n, _ := io.Copy(io.Discard, y)
					done <- n
				}()
				if _, err := x.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				_ = x.CloseWrite()
				if n := <-done; n != size {
					t.Fatalf("%d bytes arrived", n)
				}
				took := time.Since(begin) - roundTrip/2 // the first byte needs that at any rate
				if share := size / rate / took.Seconds(); share < tc.least || share > tc.most {
					t.Errorf("%.2f of the path's rate, want %.2f to %.2f", share, tc.least, tc.most)
				}
				_ = x.Close()
				_ = y.Close()
				_ = c.Close()
				_ = s.Close()
				if err := errors.Join(a.Close(), b.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
