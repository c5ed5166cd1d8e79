// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStress opens thousands of streams on small windows, sends random amounts both ways, ends them in random order and by random means, and
// checks every byte of those that end in order. It does so on every kind of transport, also on such that are as unpunctual as they may be.
func TestStress(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T) (client, server net.Conn)
	}{
		{"copied", func(t *testing.T) (net.Conn, net.Conn) { return tcpPair(t) }},
		{"direct", func(t *testing.T) (net.Conn, net.Conn) { a, b := tcpPair(t); return NewTransport(a), NewTransport(b) }},
		{"direct, sockets that take little", func(t *testing.T) (net.Conn, net.Conn) {
			a, b := tcpPair(t)
			return reluctant(a, 1), reluctant(b, 2)
		}},
		{"direct TLS, reads in pieces", func(t *testing.T) (net.Conn, net.Conn) {
			a, b := tcpPair(t)
			x, y := bareTLS(reluctant(&hesitant{Conn: a}, 3), reluctant(&hesitant{Conn: b}, 4))
			handshake(t, x, y)
			return x, y
		}},
		{"copied, reads in pieces", func(t *testing.T) (net.Conn, net.Conn) {
			a, b := tcpPair(t)
			return &hesitant{Conn: a}, &hesitant{Conn: b}
		}},
		{"inside another stream", func(t *testing.T) (net.Conn, net.Conn) {
			x, y := secure(tcpPair(t))
			c, s := join(t, x, y, smallWindows, smallWindows)
			a, b := secure(open(t, c, s))
			handshake(t, a, b)
			for _, outer := range []*Conn{c, s} { // both will have one again at the end
				eventually(t, func() bool {
					outer.seat.mu.Lock()
					defer outer.seat.mu.Unlock()
					return outer.seat.holder == &outer.guard && outer.seat.arrived
				})
			}
			return a, b
		}},
	} {
		t.Run(tc.name, func(t *testing.T) { stress(t, tc.make) })
	}
}

// smallWindows make streams wait for everything that one can wait for.
var smallWindows = Settings{StreamWindow: 20000, ConnWindow: 100000, WriteQueue: 30000, WriteFrameSize: 7000}

func stress(t *testing.T, dial func(t *testing.T) (client, server net.Conn)) {
	a, b := dial(t)
	before := runtime.NumGoroutine()
	c, err := NewClient(a, smallWindows)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(b, smallWindows)
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

// hesitant is a connection that gives what has come in pieces of random sizes, and others the chance to do something between.
type hesitant struct {
	net.Conn
	pieces atomic.Uint64
}

func (h *hesitant) Read(p []byte) (int, error) {
	rng := rand.New(rand.NewPCG(h.pieces.Add(1), 5))
	for range rng.IntN(3) {
		runtime.Gosched()
	}
	return h.Conn.Read(p[:min(len(p), 1+rng.IntN(5000))])
}

// reluctant makes a Transport whose network takes little at once, and sometimes nothing.
func reluctant(nc net.Conn, seed uint64) *Transport {
	t := NewTransport(nc)
	t.try = &tooFull{to: nc, rng: rand.New(rand.NewPCG(seed, 6))}
	return t
}

type tooFull struct {
	to  net.Conn
	rng *rand.Rand
}

func (f *tooFull) tryWrite(p []byte) (int, error) {
	return f.to.Write(p[:min(len(p), f.rng.IntN(8000))])
}

// TestStressDrain has streams open through a pool while their servers drain one connection after the other: every stream must come about, and no byte be lost.
func TestStressDrain(t *testing.T) {
	before := runtime.NumGoroutine()
	var serving sync.WaitGroup
	servers := make(chan *Conn, 10000)
	p := NewPool(func(context.Context, string) (*Conn, error) {
		a, b := tcpPair(t)
		s := NewServer(NewTransport(b), smallWindows)
		servers <- s
		serving.Go(func() {
			for {
				r, err := s.Accept(context.Background())
				if err != nil {
					return
				}
				serving.Go(func() { serveDigest(t, r) })
			}
		})
		return NewClient(NewTransport(a), smallWindows)
	}, PoolSettings{MaxStreams: 20})
	var drained, whole atomic.Int64
	asked := make(chan struct{})
	serving.Go(func() {
		for {
			select {
			case s := <-servers:
				for s.Streams() < 5 && s.Err() == nil { // so that there is something to lose
					select {
					case <-asked:
						return
					default:
						runtime.Gosched()
					}
				}
				s.Drain()
				drained.Add(1)
			case <-asked:
				return
			}
		}
	})
	count := 1500
	if testing.Short() {
		count = 300
	}
	gate := make(chan struct{}, 60)
	var all sync.WaitGroup
	for i := range count {
		gate <- struct{}{}
		all.Go(func() {
			defer func() { <-gate }()
			if ask(t, func() (*Stream, error) {
				st, _, err := p.Open(t.Context(), "key", "10.0.0.1:80", nil)
				return st, err
			}, uint64(i), false) {
				whole.Add(1)
			}
		})
	}
	all.Wait()
	close(asked)
	t.Logf("%d streams, %d connections drained under them", whole.Load(), drained.Load())
	if whole.Load() != int64(count) || drained.Load() < 5 {
		t.Errorf("%d of %d streams whole, %d drains", whole.Load(), count, drained.Load())
	}
	_ = p.Close()
	serving.Wait()
	noneLeft(t, before)
}

// askDigest sends bytes and expects their digest back, then as many bytes as it asked for. False: it cut the stream on purpose.
func askDigest(t *testing.T, c *Conn, seed uint64) bool {
	return ask(t, func() (*Stream, error) {
		st, _, err := c.Open(t.Context(), "10.0.0.1:80", nil)
		return st, err
	}, seed, true)
}

// ask is askDigest on any stream; whether it may cut it on purpose is said, too.
func ask(t *testing.T, open func() (*Stream, error), seed uint64, mayCut bool) bool {
	rng := rand.New(rand.NewPCG(seed, 1))
	st, err := open()
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
	cut := mayCut && rng.IntN(10) == 0
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
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
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
