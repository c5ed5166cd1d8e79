// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

// listener is one bound port and the connections that came in by it.
type listener struct {
	server *Server
	socket net.Listener
	bind   uint16
	visits *gatewayhttp.Inside // requests in the streams of a waypoint; nil: streams are forwarded unread
	wait   sync.WaitGroup      // accept loop, connections

	mu    sync.Mutex      // hold for both below
	until context.Context // once the listener drains: cuts what is left
	conns map[*hbone.Conn]struct{}
}

// listen binds a port, on both address families, and begins to accept: as a waypoint, or not.
func (s *Server) listen(bind uint16, waypoint bool) (*listener, error) {
	socket, err := s.o.Listen(bind)
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %w", bind, err)
	}
	l := &listener{server: s, socket: socket, bind: bind, conns: map[*hbone.Conn]struct{}{}}
	if waypoint {
		l.visits = s.web.NewInside()
	}
	l.wait.Go(l.accept)
	return l, nil
}

// listenTCP is the Listen that a Server uses unless told otherwise.
func listenTCP(bind uint16) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	config.SetMultipathTCP(false) // Go's default for listeners; no peer of ours speaks it, and its sockets know fewer options
	return config.Listen(context.Background(), "tcp", fmt.Sprintf(":%d", bind))
}

func (l *listener) accept() {
	s := l.server
	pause := 5 * time.Millisecond
	for {
		nc, err := l.socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of descriptors or memory, most likely: wait for others to give some back.
			s.o.Log.Error(err, "accepting failed", "port", l.bind, "retryIn", pause.String())
			select {
			case <-time.After(pause):
			case <-s.hard.Done():
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		if !s.connections.take(struct{}{}) {
			s.metrics.limited.WithLabelValues("connections").Inc()
			if s.connections.used() > s.o.Limits.Connections+s.o.Limits.Connections/leaving || !s.idlers.giveWay() {
				nc.Close()
				continue
			}
			s.connections.force(struct{}{}) // one too many, until the other one has ended
		}
		l.wait.Go(func() {
			defer s.connections.give(struct{}{})
			l.serve(nc)
		})
	}
}

// add counts a connection in. One that ends its handshake during a drain is drained too.
func (l *listener) add(conn *hbone.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[conn] = struct{}{}
	if l.until != nil {
		l.shut(conn)
	}
}

func (l *listener) remove(conn *hbone.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// drain stops accepting, tells every connection to open no more streams, and waits until the running ones have ended, or ctx
// ends, which cuts them.
func (l *listener) drain(ctx context.Context) {
	l.socket.Close()
	l.mu.Lock()
	l.until = ctx
	for conn := range l.conns {
		l.shut(conn)
	}
	l.mu.Unlock()
	if l.visits != nil {
		l.visits.Drain(ctx)
	}
	l.wait.Wait()
	if l.visits != nil {
		l.visits.Close(ctx) // not earlier: a stream that was answered just before its client heard of the drain may bring its request as late as now
	}
}

// timeUp says whether a drain has cut what was left.
func (l *listener) timeUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until != nil && l.until.Err() != nil || l.server.hard.Err() != nil
}

// shut drains one connection. Its error says no more than that time was up, and the streams that were cut log themselves.
func (l *listener) shut(conn *hbone.Conn) {
	until := l.until
	l.wait.Go(func() { _ = conn.Shutdown(until) })
}

// addressOf is the host of a TCP peer.
func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
