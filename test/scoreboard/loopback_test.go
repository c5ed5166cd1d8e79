// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"
)

// TestPaths sends a little through every path that a row measures.
func TestPaths(t *testing.T) {
	for name, open := range map[string]func(context.Context, *loopback) (*path, error){
		"a tunnel in a tunnel": func(ctx context.Context, l *loopback) (*path, error) { return l.doubleHBONE(ctx) },
		"TLS in TLS":           func(ctx context.Context, l *loopback) (*path, error) { return l.doubleTLS(ctx) },
		"three writers, one reader": func(ctx context.Context, l *loopback) (*path, error) {
			x, y, err := l.bareTLS(ctx)
			return newPath([]io.Writer{x, x, x}, []io.Reader{y}), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTestLoopback(t)
			p, err := open(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.send(3 << 20); err != nil {
				t.Error(err)
			}
		})
	}
}

// visited is a stream's client side, of either kind.
type visited interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// TestStreams does on a stream of ours and on one of x/net's what the rows do on them.
func TestStreams(t *testing.T) {
	l := newTestLoopback(t)
	for name, serve := range map[string]func(io.ReadWriter){
		"echo":     echo,
		"one byte": func(s io.ReadWriter) { _ = answerByte(s) },
	} {
		client, server, err := l.hboneOverTCP(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.running.Go(func() {
			for {
				r, err := server.Accept(context.Background())
				if err != nil {
					return
				}
				if s, err := r.Accept(nil); err == nil {
					l.running.Go(func() { defer s.Close(); serve(s) })
				}
			}
		})
		known, err := l.xnetPair(t.Context(), serve)
		if err != nil {
			t.Fatal(err)
		}
		for kind, open := range map[string]func() (visited, error){
			"HBONE": func() (visited, error) { s, _, err := client.Open(t.Context(), authority, nil); return s, err },
			"x/net": func() (visited, error) { return known.open(t.Context()) },
		} {
			t.Run(name+" over "+kind, func(t *testing.T) {
				s, err := open()
				if err != nil {
					t.Fatal(err)
				}
				if name == "echo" {
					n := 0
					if err := pingPong(s, 10, func(time.Duration) { n++ }); err != nil || n != 10 {
						t.Errorf("%d round trips, error %v", n, err)
					}
				} else if err := askByte(s); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
	}
}

// TestLoopbackEnds: when the context ends, whoever waits gets an error, and close leaves nobody behind.
func TestLoopbackEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := newLoopback(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.doubleHBONE(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- drain(p.readers[0], p.in[0], 1) }()
	cancel()
	if err := <-waits; err == nil {
		t.Error("read something")
	}
	l.close()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, there were %d", runtime.NumGoroutine(), before)
		}
	}
}

func newTestLoopback(t *testing.T) *loopback {
	t.Helper()
	l, err := newLoopback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}
