// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// far is what a pool under test dials: servers that echo, over pipes in memory.
type far struct {
	t       testing.TB
	set     Settings
	dials   atomic.Int64
	fail    atomic.Pointer[error]
	mu      sync.Mutex
	servers []*Conn
	running sync.WaitGroup
}

func (f *far) dial(ctx context.Context, _ string) (*Conn, error) {
	f.dials.Add(1)
	if err := f.fail.Load(); err != nil {
		return nil, *err
	}
	a, b := net.Pipe()
	s := NewServer(b, f.set)
	f.mu.Lock()
	f.servers = append(f.servers, s)
	f.mu.Unlock()
	f.running.Go(func() { echo(f.t, s) })
	return NewClient(a, Settings{})
}

func (f *far) server(i int) *Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.servers[i]
}

// end closes everything, so that a synctest bubble can end.
func (f *far) end(p *Pool[string]) {
	_ = p.Close()
	for _, s := range f.servers {
		_ = s.Close()
	}
	f.running.Wait()
}

func (f *far) open(p *Pool[string]) *Stream {
	f.t.Helper()
	s, _, err := p.Open(f.t.Context(), "key", "10.0.0.1:80", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// TestPoolDialsFew has many open at once and counts the dials.
func TestPoolDialsFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{t: t}
		p := NewPool(f.dial, PoolSettings{})
		defer f.end(p)
		var all sync.WaitGroup
		for range 450 {
			all.Go(func() { f.open(p) })
		}
		all.Wait()
		if n := f.dials.Load(); n != 5 {
			t.Errorf("%d dials for 450 streams, 100 each", n)
		}
		if p.Len() != 5 {
			t.Errorf("%d connections", p.Len())
		}
	})
}

// TestPoolAfterGoAway loses its connection to a drain, to a loss, and to silence; nobody who opens notices.
func TestPoolReplacesConnections(t *testing.T) {
	for name, lose := range map[string]func(s *Conn){
		"drained": func(s *Conn) { s.Drain() },
		"closed":  func(s *Conn) { _ = s.Close() },
		"cut":     func(s *Conn) { _ = s.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &far{t: t}
				p := NewPool(f.dial, PoolSettings{})
				defer f.end(p)
				_ = f.open(p).Close()
				synctest.Wait()
				lose(f.server(0))
				time.Sleep(2 * absence) // by then somebody reads again, for sure
				synctest.Wait()
				f.open(p)
				if n := f.dials.Load(); n != 2 {
					t.Errorf("%d dials", n)
				}
				if p.Len() != 1 {
					t.Errorf("%d connections", p.Len())
				}
			})
		})
	}
}

// TestPoolRetriesRefused meets a server that takes fewer streams than it said in time.
func TestPoolRetriesRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{t: t, set: Settings{MaxStreams: 3}}
		p := NewPool(f.dial, PoolSettings{})
		defer f.end(p)
		var all sync.WaitGroup
		for range 9 {
			all.Go(func() { f.open(p) })
		}
		all.Wait()
		for i := range 3 {
			if n := f.server(i).Streams(); n != 3 {
				t.Errorf("server %d has %d streams", i, n)
			}
		}
	})
}

func TestPoolReleasesIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{t: t}
		p := NewPool(f.dial, PoolSettings{})
		defer f.end(p)
		s := f.open(p)
		time.Sleep(time.Hour)
		if p.Len() != 1 {
			t.Fatal("released a connection in use")
		}
		_ = s.Close()
		time.Sleep(4*time.Minute + 59*time.Second)
		if p.Len() != 1 {
			t.Fatal("released too early")
		}
		time.Sleep(5 * time.Minute) // the pool looks when the first could be due
		if p.Len() != 0 {
			t.Fatal("not released")
		}
		<-f.server(0).Done()
		if len(p.entries) != 0 || p.sweep != nil {
			t.Error("the pool keeps something for a key without connections")
		}
	})
}

func TestPoolBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{t: t}
		p := NewPool(f.dial, PoolSettings{})
		defer f.end(p)
		broken := errors.New("no route")
		f.fail.Store(&broken)
		for range 1000 {
			if _, _, err := p.Open(t.Context(), "key", "10.0.0.1:80", nil); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		// Ten seconds of failure: half a second to a second apart, once it has grown.
		if n := f.dials.Load(); n < 10 || n > 30 {
			t.Errorf("%d dials", n)
		}
		f.fail.Store(nil)
		time.Sleep(time.Second)
		f.open(p)
	})
}

func TestPoolDialGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended error
		p := NewPool(func(ctx context.Context, _ string) (*Conn, error) {
			<-ctx.Done()
			ended = ctx.Err()
			return nil, ctx.Err()
		}, PoolSettings{})
		defer p.Close()
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, _, err := p.Open(short, "key", "10.0.0.1:80", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open: %v", err)
		}
		synctest.Wait()
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("the dial that nobody waited for ended with %v", ended)
		}
		start := time.Now()
		if _, _, err := p.Open(t.Context(), "key", "10.0.0.1:80", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open: %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
}

// TestPoolTellsWhatADialIsAt has somebody give up a dial, whose error says how far it had come.
func TestPoolTellsWhatADialIsAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := errors.New("the far side of the moon")
		p := NewPool(func(ctx context.Context, _ string) (*Conn, error) {
			Dialling(ctx, errors.New("the near side"))
			Dialling(ctx, far)
			<-ctx.Done()
			return nil, ctx.Err()
		}, PoolSettings{})
		defer p.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := p.Open(ctx, "key", "10.0.0.1:80", nil); !errors.Is(err, far) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gives up is told %v", err)
		}
		// One who loses interest has learned nothing of anybody.
		leaving, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if _, _, err := p.Open(leaving, "key", "10.0.0.1:80", nil); errors.Is(err, far) || !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves is told %v", err)
		}
		Dialling(t.Context(), far) // of no dial
	})
}

func TestPoolDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{t: t}
		p := NewPool(f.dial, PoolSettings{})
		defer f.end(p)
		s := f.open(p)
		p.Drain()
		if _, _, err := p.Open(t.Context(), "key", "10.0.0.1:80", nil); !errors.Is(err, ErrDraining) {
			t.Errorf("open: %v", err)
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		_ = s.Close()
		<-f.server(0).Done()
	})
}

// TestPoolDoesNotRepeat has the far end refuse for good: that is an answer, not a lost connection.
func TestPoolDoesNotRepeat(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServer(b, Settings{})
	defer s.Close()
	var asked atomic.Int64
	go func() {
		for {
			r, err := s.Accept(t.Context())
			if err != nil {
				return
			}
			asked.Add(1)
			if r.Authority == "10.0.0.1:80" {
				_ = r.Reject(503, nil)
			} else {
				_ = r.stream.Reset(uint32(http2.ErrCodeInternal))
			}
		}
	}()
	p := NewPool(func(context.Context, string) (*Conn, error) { return NewClient(a, Settings{}) }, PoolSettings{})
	defer p.Close()
	for i, target := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		if _, _, err := p.Open(t.Context(), "key", target, nil); err == nil {
			t.Errorf("%s: opened", target)
		}
		if asked.Load() != int64(i+1) {
			t.Errorf("%s: asked %d times in all", target, asked.Load())
		}
	}
}

// TestPoolLeavesSilentConnection has a peer vanish without a word: those who open later are served within seconds, over another connection.
func TestPoolLeavesSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{t: t}
		var pipes []*deafConn
		p := NewPool(func(ctx context.Context, key string) (*Conn, error) {
			f.dials.Add(1)
			a, b := net.Pipe()
			s := NewServer(b, f.set)
			f.servers = append(f.servers, s)
			f.running.Go(func() { echo(t, s) })
			pipes = append(pipes, &deafConn{Conn: a})
			return NewClient(pipes[len(pipes)-1], Settings{})
		}, PoolSettings{})
		defer f.end(p)
		old := f.open(p)
		pipes[0].deaf.Store(true)
		start := time.Now()
		f.open(p)
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("took %v", took)
		}
		if f.dials.Load() != 2 || p.Len() != 1 {
			t.Errorf("%d dials, %d connections", f.dials.Load(), p.Len())
		}
		f.open(p)
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("the next one took until %v", took)
		}
		if old.Conn().Err() != nil {
			t.Error("running streams were cut by the probe")
		}
		<-old.Conn().Done() // by the PINGs, later
	})
}

// deafConn is a connection on which, once deaf, nothing arrives any more in either direction.
type deafConn struct {
	net.Conn
	deaf atomic.Bool
}

func (c *deafConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.deaf.Load() {
			return n, err
		}
	}
}

func (c *deafConn) Write(p []byte) (int, error) {
	if c.deaf.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}
