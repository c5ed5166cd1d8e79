// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime/pprof"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// loopback makes connections within this process, closes them all at its end, and waits for the goroutines that served them.
type loopback struct {
	source   *mtls.Source
	client   *tls.Config
	server   *tls.Config
	listener net.Listener
	running  sync.WaitGroup
	unwatch  func() bool

	mu   sync.Mutex
	open []io.Closer
}

// newLoopback gives a loopback whose connections are closed by close, or earlier when ctx ends, so that whoever waits on one gets an error.
func newLoopback(ctx context.Context) (*loopback, error) {
	source, err := newSource()
	if err != nil {
		return nil, err
	}
	// The client's first handshake would otherwise wait for its own certificate.
	if _, err := source.Certificate(ctx, clientIdentity); err != nil {
		source.Close()
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		source.Close()
		return nil, err
	}
	l := &loopback{
		source: source, listener: listener,
		client: source.Client(clientIdentity, []mesh.Identity{serverIdentity}), server: source.Server(serverIdentity),
	}
	l.unwatch = context.AfterFunc(ctx, l.closeAll)
	return l, nil
}

func (l *loopback) close() {
	l.unwatch()
	l.closeAll()
	l.running.Wait()
	l.source.Close()
}

// closeAll closes the last one first: what is nested before what carries it.
func (l *loopback) closeAll() {
	l.listener.Close()
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for _, c := range slices.Backward(open) {
		_ = c.Close() // the measurement is over; there is nobody whom an error would help
	}
}

// keep has c closed with everything else.
func (l *loopback) keep(c ...io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c...)
}

// serve runs f in a goroutine of its own until its connection ends, under the label of one side.
func (l *loopback) serve(side pprof.LabelSet, f func()) {
	l.running.Go(func() { pprof.Do(context.Background(), side, func(context.Context) { f() }) })
}

// tcp makes the two ends of a connection. Call it from one goroutine at a time: it takes the next connection that comes for its own.
func (l *loopback) tcp(ctx context.Context) (dialled, accepted net.Conn, err error) {
	if dialled, err = new(net.Dialer).DialContext(ctx, "tcp", l.listener.Addr().String()); err != nil {
		return nil, nil, err
	}
	if accepted, err = l.listener.Accept(); err != nil {
		dialled.Close()
		return nil, nil, err
	}
	l.keep(dialled, accepted)
	return dialled, accepted, nil
}

// secure puts TLS on the two ends of a connection.
func (l *loopback) secure(ctx context.Context, a, b net.Conn) (client, server *tls.Conn, err error) {
	client, server = tls.Client(a, l.client), tls.Server(b, l.server)
	err = together(
		func() error { return client.HandshakeContext(ctx) },
		func() error { return server.HandshakeContext(ctx) },
	)
	if err != nil {
		return nil, nil, fmt.Errorf("handshake: %w", err)
	}
	l.keep(client, server)
	return client, server, nil
}

// bareTLS is the control of most rows: TLS over TCP and nothing else. It does not pass under.
func (l *loopback) bareTLS(ctx context.Context) (client, server *tls.Conn, err error) {
	a, b, err := l.tcp(ctx)
	if err != nil {
		return nil, nil, err
	}
	return l.secure(ctx, a, b)
}

// together runs all of them at once and waits for all, or gives the first error and leaves the others to the end of their connections.
func together(all ...func() error) error {
	ended := make(chan error, len(all))
	for _, f := range all {
		go func() { ended <- f() }()
	}
	for range all {
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
}
