// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// goodClient is somebody who does nothing wrong while others do: it has a connection with streams that play ping-pong and streams that come and go,
// and now and then makes another connection. None of that may fail.
type goodClient struct {
	t       testing.TB
	address string
	conn    *Conn
	cancel  context.CancelFunc
	ctx     context.Context
	running sync.WaitGroup
	rest    sync.RWMutex // hold for writing to have it pause between two messages

	pings, opens, connections atomic.Int64
}

const (
	goodStreams = 3
	goodMessage = 1 << 10
	// opensPerConnection is how many streams come and go before another connection is made: it costs as much as about thirty of them.
	opensPerConnection = 30
)

func newGoodClient(t testing.TB, address string) *goodClient {
	g := &goodClient{t: t, address: address}
	g.ctx, g.cancel = context.WithCancel(t.Context())
	conn, err := g.connect()
	if err != nil {
		t.Fatal(err)
	}
	g.conn = conn
	for i := range goodStreams {
		g.running.Go(func() { g.run("ping-pong", func() error { return g.pingPong(byte(i)) }) })
	}
	g.running.Go(func() { g.run("open", g.comeAndGo) })
	return g
}

func (g *goodClient) run(what string, f func() error) {
	if err := f(); err != nil && g.ctx.Err() == nil {
		g.t.Errorf("the good client's %s: %v", what, err)
	}
}

func (g *goodClient) close() {
	g.cancel()
	_ = g.conn.Close()
	g.running.Wait()
}

func (g *goodClient) connect() (*Conn, error) {
	nc, err := new(net.Dialer).DialContext(g.ctx, "tcp", g.address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(under(nc), hostile.TLS())
	if err := secure.HandshakeContext(g.ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return NewClient(secure, Settings{})
}

func (g *goodClient) pingPong(seed byte) error {
	st, _, err := g.conn.Open(g.ctx, hostile.Echo, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	for g.ctx.Err() == nil {
		seed += 3
		g.rest.RLock()
		err := mirror(st, bytes.Repeat([]byte{seed}, goodMessage))
		g.rest.RUnlock()
		if err != nil {
			return err
		}
		g.pings.Add(1)
	}
	return nil
}

// mirror sends b and wants it back.
func mirror(st *Stream, b []byte) error {
	if _, err := st.Write(b); err != nil {
		return err
	}
	got := make([]byte, len(b))
	if _, err := io.ReadFull(st, got); err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("sent %d times %d, got others back", len(b), b[0])
	}
	return nil
}

func (g *goodClient) comeAndGo() error {
	for g.ctx.Err() == nil {
		for range opensPerConnection {
			g.rest.RLock()
			err := g.visit(g.conn)
			g.rest.RUnlock()
			if err != nil {
				return err
			}
			g.opens.Add(1)
		}
		g.rest.RLock()
		err := g.visitAnew()
		g.rest.RUnlock()
		if err != nil {
			return fmt.Errorf("on a new connection: %w", err)
		}
		g.connections.Add(1)
	}
	return nil
}

// visitAnew does it on a new connection.
func (g *goodClient) visitAnew() error {
	c, err := g.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return g.visit(c)
}

// visit opens a stream, has a byte echoed, ends it, and sees the other side end.
func (g *goodClient) visit(c *Conn) error {
	st, _, err := c.Open(g.ctx, hostile.Echo, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := mirror(st, []byte{1}); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	if n, err := st.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("at the end: %d bytes, error %w", n, err)
	}
	return nil
}

// progress is what a good client has done.
type progress struct{ pings, opens, connections int64 }

func (g *goodClient) progress() progress {
	return progress{g.pings.Load(), g.opens.Load(), g.connections.Load()}
}

func (p progress) since(q progress) progress {
	return progress{p.pings - q.pings, p.opens - q.opens, p.connections - q.connections}
}

// enough says whether somebody who is served did at least this much.
func (p progress) enough() bool {
	return p.pings >= 100 && p.opens >= opensPerConnection && p.connections >= 1
}
