// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// streamPort serves a port whose connections go to backends of TCPRoutes, or of TLSRoutes by the name that their ClientHello asks for. It knows no
// identity of its clients: policies judge them by where they come from and what they ask for. Connections are brought to it.
type streamPort struct {
	server *Server
	ways   atomic.Pointer[ways]
	ctx    context.Context // ends when what still runs is to be cut
	cut    context.CancelFunc

	mu   sync.Mutex // hold for over, and to add to wait
	over bool       // it drains
	wait sync.WaitGroup
}

func (s *Server) newStreamPort() *streamPort {
	p := &streamPort{server: s}
	p.ctx, p.cut = context.WithCancel(s.hard)
	return p
}

// take serves a connection that was counted with takeStranger; false: it drains, and has not touched it.
func (p *streamPort) take(nc net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	p.wait.Go(func() {
		client, w := relay.AsConn(nc), p.ways.Load()
		if w.tcp {
			p.serveTCP(client, w)
		} else if p.serveTLS(client) {
			return // somebody else has it now
		}
		nc.Close()
		p.server.giveStranger(nc.RemoteAddr())
	})
	return true
}

// drain takes no more connections, and waits for those that run until ctx ends, which cuts them.
func (p *streamPort) drain(ctx context.Context) {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	defer p.cut()
	defer context.AfterFunc(ctx, p.cut)()
	p.wait.Wait()
}

// serveTCP carries one connection until it ends.
func (p *streamPort) serveTCP(client relay.Conn, w *ways) {
	s := p.server
	r := s.begin(mesh.Identity{}, client.RemoteAddr(), "", nil)
	r.tunnel = "tcp"
	refuse := func(refusal *Refusal) {
		refuseTCP(client)
		r.refused(refusal, nil)
	}
	if w.stream == nil {
		refuse(&Refusal{503, ReasonNoRoute, nil})
		return
	}
	st, done := p.open(client)
	defer done()
	t, refusal := p.admit(st, w.port, "TCPRoute "+w.stream.Namespace+"/"+w.stream.Name, w.stream.Backends)
	if refusal != nil {
		refuse(refusal)
		return
	}
	defer p.leave(t)
	r.service = fmt.Sprintf("%s:%d", t.named.Hostname, t.port)
	to, refusal := p.connect(st.ctx, st, t) // a client that has ended its side may wait for an answer all the same
	if refusal != nil {
		refuse(refusal)
		return
	}
	p.carry(r, st, client, to, nil)
}

// refuseTCP ends a connection so that its client sees that it was refused, and takes it for no empty answer.
func refuseTCP(client net.Conn) {
	if again, ok := client.(*replayed); ok {
		client = again.Conn
	}
	if tcp, ok := client.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is over
	}
	client.Close()
}

// open notes a connection among those that a change of policies may end. The function that it gives is to be called at the end.
func (p *streamPort) open(client net.Conn) (*stream, func()) {
	s := p.server
	ctx, end := context.WithCancelCause(p.ctx)
	st := &stream{from: addressOf(client.RemoteAddr()), at: endOf(client.RemoteAddr()), ctx: ctx, end: end}
	s.streams.add(st)
	return st, func() {
		s.streams.remove(st)
		end(nil)
	}
}

// carry copies both ways until both have ended, nothing passes for a while, or the connection is cut. first is what was read of the client already.
func (p *streamPort) carry(r *record, st *stream, client relay.Conn, to *outlet, first []byte) {
	s := p.server
	defer to.done()
	to.note(r)
	r.opened()
	defer watchIdle(s.o.Limits.StreamIdle, &r.stats, func() { st.end(&Refusal{503, ReasonIdle, nil}) })()
	if len(first) > 0 {
		client = &replayed{Conn: client, read: first}
	}
	err := relay.Copy(st.ctx, client, to.conn, &r.stats)
	r.closed(err, p.ctx.Err() != nil)
}

// watchIdle calls end once nothing was counted for one limit, or for two: it looks once in each. The function that it gives stops it.
func watchIdle(limit time.Duration, stats *relay.Stats, end func()) (stop func()) {
	var mu sync.Mutex // hold for both below
	var timer *time.Timer
	last := int64(0)
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		now := stats.Sent.Load() + stats.Received.Load()
		if now == last {
			end()
			return
		}
		last = now
		timer.Reset(limit)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
	}
}
