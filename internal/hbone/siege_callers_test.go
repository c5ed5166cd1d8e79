// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// callers are clients whose servers are the enemy: each keeps a connection to it, and on that some streams, and makes another when it loses one.
type callers struct {
	t     *testing.T
	enemy *hostile.Enemy
	says  int // bytes on each stream

	stop    context.CancelFunc
	running sync.WaitGroup
	open    atomic.Int64 // streams

	mu    sync.Mutex // guards what follows
	conns map[*Conn]bool
	ends  *tally
}

func newCallers(t *testing.T, enemy *hostile.Enemy, says int) *callers {
	return &callers{t: t, enemy: enemy, says: max(says, 100), ends: newTally(), stop: func() {}, conns: map[*Conn]bool{}}
}

func (c *callers) mount(o hostile.Order, s Settings) {
	c.t.Helper()
	c.ends = newTally()
	address := report(c.t)(c.enemy.Begin(o)).Address
	ctx, stop := context.WithCancel(c.t.Context())
	c.stop = stop
	for range o.Attackers {
		c.running.Go(func() {
			for ctx.Err() == nil {
				c.call(ctx, address, s, max(o.Streams, fewStreams))
			}
		})
	}
}

// fewStreams is how many streams a caller wants at once, if there is no reason to want more.
const fewStreams = 4

func (c *callers) dismount() hostile.Report {
	c.t.Helper()
	c.close()
	return report(c.t)(c.enemy.End())
}

func (c *callers) close() {
	c.stop()
	c.running.Wait()
}

func (c *callers) streams() (int, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.open.Load()), len(c.conns)
}

func (c *callers) outcome() *tally { return c.ends }

// call makes one connection, uses it until it ends, and notes how it did.
func (c *callers) call(ctx context.Context, address string, s Settings, streams int) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer nc.Close()
	secure := tls.Client(under(nc), hostile.TLS())
	if secure.HandshakeContext(ctx) != nil {
		return
	}
	var last lastWord
	s.Observe = last.observe
	conn, err := NewClient(secure, s)
	if err != nil {
		c.t.Error(err)
		return
	}
	c.mu.Lock()
	c.conns[conn] = true
	c.mu.Unlock()
	over := context.AfterFunc(ctx, func() { _ = conn.Close() })
	var all sync.WaitGroup
	for range streams {
		all.Go(func() { c.talk(ctx, conn) })
	}
	<-conn.Done()
	over()
	all.Wait()
	c.ends.note(conn.Err(), last.event())
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// talk opens one stream after the other, says something on it, and listens until it ends.
func (c *callers) talk(ctx context.Context, conn *Conn) {
	said, buf := make([]byte, c.says), make([]byte, 100)
	for conn.Err() == nil && ctx.Err() == nil {
		st, _, err := conn.Open(ctx, hostile.Echo, nil)
		if err != nil {
			select { // a caller has better to do than to ask again at once
			case <-conn.Done():
			case <-time.After(time.Millisecond):
			}
			continue
		}
		c.open.Add(1)
		_, err = st.Write(said)
		for err == nil {
			_, err = st.Read(buf)
		}
		_ = st.Close()
		c.open.Add(-1)
	}
}
