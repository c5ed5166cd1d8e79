// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// tcp makes two ends of a TCP connection over loopback.
func tcp(t testing.TB) (Conn, Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return AsConn(a), AsConn(b)
}

// relayed starts a copy between two TCP connections and gives their far ends.
func relayed(t testing.TB, ctx context.Context) (client, server Conn, stats *Stats, result chan error) {
	t.Helper()
	client, a := tcp(t)
	b, server := tcp(t)
	stats, result = new(Stats), make(chan error, 1)
	go func() { result <- Copy(ctx, a, b, stats) }()
	return client, server, stats, result
}

func TestHalfClose(t *testing.T) {
	for name, serverFirst := range map[string]bool{"client first": false, "server first": true} {
		t.Run(name, func(t *testing.T) {
			client, server, stats, result := relayed(t, t.Context())
			first, second := client, server
			if serverFirst {
				first, second = server, client
			}
			sizes := map[Conn]int{first: 20<<20 + 7, second: 3001} // one passes every step of the buffer
			for _, from := range []Conn{first, second} {
				to := first
				if from == first {
					to = second
				}
				data := make([]byte, sizes[from])
				_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
				want := sha256.Sum256(data)
				go func() {
					_, _ = from.Write(data)
					_ = from.CloseWrite()
				}()
				got := sha256.New()
				n, err := io.Copy(got, to)
				if err != nil || int(n) != sizes[from] || !bytes.Equal(got.Sum(nil), want[:]) {
					t.Fatalf("%d of %d bytes, error %v, or wrong bytes", n, sizes[from], err)
				}
			}
			if err := <-result; err != nil {
				t.Errorf("copy: %v", err)
			}
			if s, r := stats.Sent.Load(), stats.Received.Load(); int(s) != sizes[client] || int(r) != sizes[server] {
				t.Errorf("counted %d and %d", s, r)
			}
		})
	}
}

func TestResetIsPassedOn(t *testing.T) {
	client, server, _, result := relayed(t, t.Context())
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	reset(client)
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other side read: %v", err)
	}
	if err := <-result; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("copy: %v", err)
	}
}

func TestContextAbortsBoth(t *testing.T) {
	reason := errors.New("policy changed")
	ctx, cancel := context.WithCancelCause(t.Context())
	client, server, _, result := relayed(t, ctx)
	cancel(reason)
	if err := <-result; !errors.Is(err, reason) {
		t.Errorf("copy: %v", err)
	}
	for _, c := range []Conn{client, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	}
}

// pipe is a Conn in memory that can be told that it was reset.
type pipe struct {
	net.Conn
	reset func()
}

func (p *pipe) CloseWrite() error { return p.Close() }

func (p *pipe) AfterReset(f func()) (stop func() bool) {
	var once sync.Once
	p.reset = func() { once.Do(func() { go f() }) }
	return func() (inTime bool) {
		once.Do(func() { inTime = true })
		return inTime
	}
}

// TestResetBehindStalledWrite resets one side while the other takes nothing: the copy must not wait for it for ever.
func TestResetBehindStalledWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		from := &pipe{Conn: a}
		result := make(chan error, 1)
		go func() { result <- Copy(t.Context(), from, &pipe{Conn: b}, new(Stats)) }()
		if _, err := client.Write([]byte("never taken")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		from.reset()
		if err := <-result; !errors.Is(err, syscall.ECONNRESET) || !errors.Is(err, errStalled) {
			t.Errorf("copy: %v", err)
		}
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("the stalled side was left open")
		}
	})
}

// TestBytesBeforeAResetAreDelivered has the other side take them slowly.
func TestBytesBeforeAResetAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		from := &pipe{Conn: a}
		stats := new(Stats)
		result := make(chan error, 1)
		go func() { result <- Copy(t.Context(), from, &pipe{Conn: b}, stats) }()
		go func() {
			for range 5 {
				_, _ = client.Write([]byte("x"))
			}
			_ = client.Close()
		}()
		synctest.Wait()
		from.reset()
		for range 5 {
			time.Sleep(stall / 2)
			if _, err := server.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		// A pipe knows no half-close, so the other direction ends with an error.
		if err := <-result; errors.Is(err, errStalled) || stats.Sent.Load() != 5 {
			t.Errorf("copy: %v after %d bytes", err, stats.Sent.Load())
		}
	})
}

func TestConnectionWithoutCloseWrite(t *testing.T) {
	near, far := net.Pipe()
	client, a := tcp(t)
	result := make(chan error, 1)
	go func() { result <- Copy(t.Context(), a, AsConn(far), new(Stats)) }()
	go func() { _ = client.CloseWrite() }()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	<-result // clean or "closed pipe", as the two directions race
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		_, _, _, result := relayed(t, ctx)
		cancel()
		<-result
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

func BenchmarkCopy(b *testing.B) {
	client, server, _, _ := relayed(b, b.Context())
	go func() { _, _ = io.Copy(io.Discard, server) }()
	block := make([]byte, 256<<10)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := client.Write(block); err != nil {
			b.Fatal(err)
		}
	}
}
