// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStress opens thousands of streams on small windows, sends random amounts both ways, ends them in random order and by random means, and
// checks every byte of those that end in order.
func TestStress(t *testing.T) {
	before := runtime.NumGoroutine()
	small := Settings{StreamWindow: 20000, ConnWindow: 100000, WriteQueue: 30000, WriteFrameSize: 7000}
	a, b := tcpPair(t)
	c, err := NewClient(a, small)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(b, small)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			r, err := s.Accept(t.Context())
			if err != nil {
				return
			}
			serving.Go(func() { serveDigest(t, r) })
		}
	})
	count := 2000
	if testing.Short() {
		count = 300
	}
	var whole, cut atomic.Int64
	gate := make(chan struct{}, 90)
	var all sync.WaitGroup
	for i := range count {
		gate <- struct{}{}
		all.Go(func() {
			defer func() { <-gate }()
			if askDigest(t, c, uint64(i)) {
				whole.Add(1)
			} else {
				cut.Add(1)
			}
		})
	}
	all.Wait()
	t.Logf("%d streams whole, %d cut on purpose", whole.Load(), cut.Load())
	if err := errors.Join(c.Err(), s.Err()); err != nil {
		t.Errorf("connection ended: %v", err)
	}
	eventually(t, func() bool { return c.Streams() == 0 && s.Streams() == 0 })
	if left := s.inflow.avail.Load() + s.inflow.taken.Load(); left != 100000 {
		t.Errorf("server's window of the connection: %d", left)
	}
	if left := c.inflow.avail.Load() + c.inflow.taken.Load(); left != 100000 {
		t.Errorf("client's window of the connection: %d", left)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-s.Done()
	serving.Wait()
	noneLeft(t, before)
}

// askDigest sends bytes and expects their digest back, then as many bytes as it asked for. False: it cut the stream on purpose.
func askDigest(t *testing.T, c *Conn, seed uint64) bool {
	rng := rand.New(rand.NewPCG(seed, 1))
	st, _, err := c.Open(t.Context(), "10.0.0.1:80", nil)
	if err != nil {
		t.Error(err)
		return false
	}
	defer st.Close()
	data := make([]byte, rng.IntN(1<<uint(rng.IntN(18)))+8)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	back := rng.IntN(1 << uint(rng.IntN(18)))
	binary.BigEndian.PutUint64(data, uint64(back))
	cut := rng.IntN(10) == 0
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 1+rng.IntN(20000))
		if _, err := st.Write(rest[:n]); err != nil {
			t.Errorf("stream %d: write: %v", seed, err)
			return false
		}
		rest = rest[n:]
		if cut && rng.IntN(3) == 0 {
			_ = st.Reset(uint32(rng.IntN(9)))
			return false
		}
	}
	if cut {
		return false
	}
	if err := st.CloseWrite(); err != nil {
		t.Errorf("stream %d: %v", seed, err)
	}
	got, err := io.ReadAll(st)
	want := sha256.Sum256(data)
	if err != nil || len(got) != len(want)+back || string(got[:32]) != string(want[:]) || strings.Trim(string(got[32:]), "b") != "" {
		t.Errorf("stream %d: %d bytes, error %v, or wrong bytes", seed, len(got), err)
	}
	return true
}

// serveDigest is the other side: it answers when everything has come, so that a cut stream gets no digest.
func serveDigest(t *testing.T, r *Request) {
	st, err := r.Accept(nil)
	if err != nil {
		return // cut before
	}
	defer st.Close()
	data, err := io.ReadAll(st)
	if err != nil || len(data) < 8 {
		return
	}
	sum := sha256.Sum256(data)
	_, _ = st.Write(sum[:])
	left := int(binary.BigEndian.Uint64(data))
	for left > 0 {
		n := min(left, 9999)
		if _, err := st.Write([]byte(strings.Repeat("b", n))); err != nil {
			return
		}
		left -= n
	}
	_ = st.CloseWrite()
}

// noneLeft waits until there are no more goroutines than before.
func noneLeft(t testing.TB, before int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, now %d:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestNoGoroutineIsLeft ends connections in every way.
func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, end := range map[string]func(c, s *Conn){
		"client closes": func(c, _ *Conn) { _ = c.Close() },
		"server closes": func(_, s *Conn) { _ = s.Close() },
		"both close":    func(c, s *Conn) { go func() { _ = c.Close() }(); _ = s.Close() },
		"cut":           func(c, _ *Conn) { _ = c.NetConn().Close() },
		"both drain":    func(c, s *Conn) { c.Drain(); s.Drain() },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := pair(t, Settings{}, Settings{})
			x, y := open(t, c, s)
			end(c, s)
			_ = x.Close()
			_ = y.Close()
			<-c.Done()
			<-s.Done()
		})
	}
	noneLeft(t, before)
}
