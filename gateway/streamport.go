// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// streamPort is a bound port whose connections go to backends of TCPRoutes, or of TLSRoutes by the name that their ClientHello asks for. It knows no
// identity of its clients: policies judge them by where they come from and what they ask for.
type streamPort struct {
	server *Server
	socket net.Listener
	ways   atomic.Pointer[ways]
	ctx    context.Context // ends when what still runs is to be cut
	cut    context.CancelFunc
	wait   sync.WaitGroup // accept loop, connections
}

// bindStreams makes the ports for TCP and TLS those of the configuration: those that are gone give up their sockets first, for another protocol
// may want them.
func (s *Server) bindStreams(listeners []mesh.Listener) (failures error) {
	wanted := map[uint16][]mesh.Listener{}
	for _, l := range listeners {
		if l.Protocol == mesh.ListenerTCP || l.Protocol.TLS() {
			wanted[l.Bind] = append(wanted[l.Bind], l)
		}
	}
	for bind, p := range s.streamPorts {
		if wanted[bind] != nil {
			continue
		}
		delete(s.streamPorts, bind)
		p.socket.Close()
		s.drop(bind, p.drain)
	}
	for bind, want := range wanted {
		ways, err := newWays(want)
		if err != nil {
			s.o.Log.Error(err, "certificates cannot be used")
		}
		if p := s.streamPorts[bind]; p != nil {
			p.ways.Store(ways)
			continue
		}
		socket, err := s.o.Listen(bind)
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("listener %q: listen on port %d: %w", want[0].Name, bind, err))
			continue
		}
		p := &streamPort{server: s, socket: socket}
		p.ctx, p.cut = context.WithCancel(s.hard)
		p.ways.Store(ways)
		p.wait.Go(p.accept)
		s.streamPorts[bind] = p
		s.o.Log.Info("listening for connections", "listener", want[0].Name, "port", want[0].Port, "bind", bind, "tls", !ways.tcp)
	}
	return failures
}

func (p *streamPort) accept() {
	s := p.server
	pause := 5 * time.Millisecond
	for {
		nc, err := p.socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors or memory: wait for others to give some back
			s.o.Log.Error(err, "accepting failed", "port", p.ways.Load().port, "retryIn", pause.String())
			select {
			case <-time.After(pause):
			case <-p.ctx.Done():
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		if !s.takeStranger() {
			nc.Close()
			continue
		}
		p.wait.Go(func() {
			defer s.giveStranger()
			defer nc.Close()
			if w := p.ways.Load(); w.tcp {
				p.serveTCP(relay.AsConn(nc), w)
			} else {
				p.serveTLS(relay.AsConn(nc), w)
			}
		})
	}
}

// drain takes no more connections, and waits for those that run until ctx ends, which cuts them.
func (p *streamPort) drain(ctx context.Context) {
	p.socket.Close()
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
	if tcp, ok := client.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is over
	}
	client.Close()
}

// open notes a connection among those that a change of policies may end. The function that it gives is to be called at the end.
func (p *streamPort) open(client net.Conn) (*stream, func()) {
	s := p.server
	ctx, end := context.WithCancelCause(p.ctx)
	st := &stream{mesh.Identity{}, addressOf(client.RemoteAddr()), ctx, end}
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
		client = &replayed{client, first}
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
