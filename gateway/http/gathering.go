// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net"
	"sync"
	"time"
)

const (
	// gatherMost is how much is gathered before who writes waits, in bytes: some frames of HTTP/2, which are 16 KiB.
	gatherMost = 64 << 10
	// gatherKeep is the largest buffer that is kept for what is written next, in bytes: a connection that carried large bodies is not to hold memory while it is idle.
	gatherKeep = 16 << 10
	// gatherEnd is how long what was written before a connection was closed may take to be sent.
	gatherEnd = time.Second
)

// gathering is a connection whose Write returns before what was written is sent: one goroutine, which runs while there is something, sends all that was written until it gets to.
// net/http writes a request of HTTP/2 in three parts (head, body, end), each with a system call of its own, which are one then, or fewer than one under load: 6 % more calls a second
// (l7-grpc). An error is told by the Write after it, and ends the connection, so that who reads learns of it at once.
type gathering struct {
	net.Conn

	mu      sync.Mutex
	room    sync.Cond // something was sent, or will not be
	pending []byte
	spare   []byte
	sending bool
	closing bool
	failed  error
}

func newGathering(c net.Conn) *gathering {
	g := &gathering{Conn: c}
	g.room.L = &g.mu
	return g
}

// Write implements net.Conn.
func (g *gathering) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.pending) > 0 && len(g.pending)+len(p) > gatherMost && g.failed == nil && !g.closing {
		g.room.Wait()
	}
	switch {
	case g.failed != nil:
		return 0, g.failed
	case g.closing:
		return 0, net.ErrClosed
	}
	g.pending = append(g.pending, p...)
	if !g.sending {
		g.sending = true
		go g.send()
	}
	return len(p), nil
}

// send sends what is pending until nothing is.
func (g *gathering) send() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.pending) > 0 && g.failed == nil {
		now := g.pending
		g.pending, g.spare = g.spare[:0], nil
		g.mu.Unlock()
		_, err := g.Conn.Write(now)
		g.mu.Lock()
		if g.failed = err; cap(now) <= gatherKeep {
			g.spare = now
		}
		g.room.Broadcast()
	}
	g.sending = false
	if g.closing || g.failed != nil {
		g.Conn.Close()
	}
}

// Close implements net.Conn. What was written before is sent, if that is soon.
func (g *gathering) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return net.ErrClosed
	}
	g.closing = true
	g.room.Broadcast()
	if g.sending {
		return g.Conn.SetWriteDeadline(time.Now().Add(gatherEnd))
	}
	return g.Conn.Close()
}
