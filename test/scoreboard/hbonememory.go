// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	idleConns      = 100
	idleStreams    = 100            // on each connection: what a client opens by default
	idleMoved      = 1 << 20        // bytes through each stream before it goes idle again
	idlePerStream  = float64(4)     // KiB, both ends together, at most
	idlePerConn    = float64(64)    // KiB, both ends together, at most
	idleKnown      = 2              // connections of x/net's: each of its streams holds a frame of 512 KiB to write from
	idleGoroutines = idleConns / 10 // more than before, at most: the runtime's own come and go
)

// footprint is what the process holds once it is quiet.
type footprint struct {
	heap, stacks float64 // KiB
	goroutines   int
}

func (f footprint) total() float64 { return f.heap + f.stacks }

func (f footprint) String() string {
	return fmt.Sprintf("heap %.0f KiB, stacks %.0f KiB, %d goroutines", f.heap, f.stacks, f.goroutines)
}

// settle collects garbage until it no longer gets less: two rounds empty the pools, and each halves the stacks of goroutines that once went deep.
func settle() footprint {
	var last footprint
	for round := range 10 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		f := footprint{heap: float64(m.HeapAlloc) / 1024, stacks: float64(m.StackInuse) / 1024, goroutines: runtime.NumGoroutine()}
		if round >= 2 && f.total() > 0.999*last.total() {
			return f
		}
		last = f
	}
	return last
}

// hboneIdleMemory holds many idle streams, both ends in this process. Everything counts: heap and stacks of the library, of TLS, and of the connections'
// Go side. The test has no goroutine while it measures; what it keeps itself, two pointers per stream, was allocated before. The control of a stream is
// a CONNECT of x/net's, with the goroutines that it cannot do without, and the control of a connection is its TLS.
func hboneIdleMemory(ctx context.Context, out io.Writer) (result, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	tlsConn, err := idleTLS(ctx, l, out)
	if err != nil {
		return result{}, err
	}
	conns, streams := make([][2]*hbone.Conn, idleConns), make([][idleStreams][2]*hbone.Stream, idleConns)
	before := settle()
	for i := range conns {
		client, server, err := l.hboneOverTCP(ctx)
		if err != nil {
			return result{}, err
		}
		conns[i] = [2]*hbone.Conn{client, server}
		// The first stream also carries the greetings to and fro; then it is gone.
		if err := visitOnce(ctx, client, server); err != nil {
			return result{}, err
		}
	}
	connected := settle()
	for i, c := range conns {
		if err := openMany(ctx, c[0], c[1], &streams[i]); err != nil {
			return result{}, err
		}
	}
	opened := settle()
	for i := range streams {
		if err := moveMany(&streams[i]); err != nil {
			return result{}, err
		}
	}
	moved := settle()
	perConn := (connected.total() - before.total()) / idleConns
	perStream := (opened.total() - connected.total()) / (idleConns * idleStreams)
	fmt.Fprintf(out, "nothing: %v\n%d connections: %v\n%d streams on them: %v\n", before, idleConns, connected, idleConns*idleStreams, opened)
	fmt.Fprintf(out, "after 1 MiB through each of them, idle again: %v\n", moved)
	fmt.Fprintf(out, "a connection with %d streams: %.1f KiB before that, %.1f KiB after\n",
		idleStreams, (opened.total()-before.total())/idleConns, (moved.total()-before.total())/idleConns)
	runtime.KeepAlive(streams)

	known, err := idleXNet(ctx, out)
	if err != nil {
		return result{}, err
	}
	return absolute(out,
		figure{What: "idle stream", Unit: "KiB", Ours: perStream, Control: &known, Against: "x/net", Goal: idlePerStream},
		figure{What: "connection", Unit: "KiB", Ours: perConn, Control: &tlsConn, Against: "TLS", Goal: idlePerConn, Rule: "with its TLS"},
		figure{
			What: "goroutines for 10,000 streams", Ours: float64(opened.goroutines - connected.goroutines),
			Goal: idleGoroutines, Rule: "the runtime's own",
		},
	), nil
}

// idleTLS is how much of a connection is its TLS and TCP, both ends, in KiB.
func idleTLS(ctx context.Context, l *loopback, out io.Writer) (float64, error) {
	if _, _, err := l.bareTLS(ctx); err != nil { // the first one also fills caches
		return 0, err
	}
	before := settle()
	for range idleConns {
		x, y, err := l.bareTLS(ctx)
		if err != nil {
			return 0, err
		}
		// A byte each way, so that both have read and written a record.
		if err := together(func() error { return askBack(x) }, func() error { return answerBack(y) }); err != nil {
			return 0, err
		}
	}
	after := settle()
	fmt.Fprintf(out, "%d bare TLS connections: %v more than %v\n", idleConns, after, before)
	return (after.total() - before.total()) / idleConns, nil
}

// greeting is the few bytes that each stream has exchanged.
const greeting = 4

func askBack(s io.ReadWriter) error {
	var b [greeting]byte
	if _, err := s.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(s, b[:])
	return err
}

func answerBack(s io.ReadWriter) error {
	var b [greeting]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return err
	}
	_, err := s.Write(b[:])
	return err
}

// visitOnce opens a stream, exchanges bytes on it and ends it.
func visitOnce(ctx context.Context, client, server *hbone.Conn) error {
	near, far, err := openStream(ctx, client, server)
	if err != nil {
		return err
	}
	return together(
		func() error { defer near.Close(); return askByte(near) },
		func() error { defer far.Close(); return answerByte(far) },
	)
}

// openMany opens the streams of one connection and exchanges bytes on each. Its goroutines have ended when it returns.
func openMany(ctx context.Context, client, server *hbone.Conn, into *[idleStreams][2]*hbone.Stream) error {
	return together(
		func() error {
			for i := range into {
				s, _, err := client.Open(ctx, authority, nil)
				if err != nil {
					return fmt.Errorf("open: %w", err)
				}
				into[i][0] = s
				if err := askBack(s); err != nil {
					return err
				}
			}
			return nil
		},
		func() error {
			for i := range into {
				r, err := server.Accept(ctx)
				if err != nil {
					return err
				}
				s, err := r.Accept(nil)
				if err != nil {
					return err
				}
				into[i][1] = s
				if err := answerBack(s); err != nil {
					return err
				}
			}
			return nil
		},
	)
}

// moveMany sends through all streams of one connection at once.
func moveMany(streams *[idleStreams][2]*hbone.Stream) error {
	var all []func() error
	out := make([]byte, 64<<10)
	for _, s := range streams {
		in := make([]byte, 16<<10)
		all = append(all,
			func() error { return fill(s[0], out, idleMoved) },
			func() error { return drain(s[1], in, idleMoved) },
		)
	}
	return together(all...)
}

// idleXNet is what an idle CONNECT of x/net's takes, both ends, in KiB. It has a loopback of its own, so that ending it ends the handlers.
func idleXNet(ctx context.Context, out io.Writer) (float64, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return 0, err
	}
	defer l.close()
	conns, streams := make([]*xnet, idleKnown), make([]xnetStream, 0, idleKnown*idleStreams)
	for i := range conns {
		conns[i], err = l.xnetPair(ctx, func(s io.ReadWriter) {
			if answerBack(s) == nil {
				_ = atEnd(s) // when the client lets go
			}
		})
		if err != nil {
			return 0, err
		}
	}
	before := settle()
	for _, c := range conns {
		for range idleStreams {
			s, err := c.open(ctx)
			if err != nil {
				return 0, err
			}
			streams = append(streams, s)
			if err := askBack(s); err != nil {
				return 0, err
			}
		}
	}
	after := settle()
	fmt.Fprintf(out, "x/net: %d connections: %v; %d streams on them: %v\n", idleKnown, before, len(streams), after)
	runtime.KeepAlive(streams)
	return (after.total() - before.total()) / float64(len(streams)), nil
}
