// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// Port serves all listeners that share one TCP port.
type Port struct {
	server  *Server
	http    *http.Server
	current atomic.Pointer[generation]
	running inflight // upgraded ones too
	inside  bool     // its connections come in tunnels
	leaving *leaving
	ctx     context.Context // of all requests
	cut     context.CancelCauseFunc

	plain  plainConns
	handed *Arrivals // connections that were among them
	once   sync.Once // begins to take those
}

// generation is what a Port serves, by one configuration.
type generation struct {
	table *Table
	tls   hosts[*tls.Config]
	// clients are the listeners whose clients prove something.
	clients map[*mesh.Listener]*clientCheck
	isTLS   bool
	pairs   *KeyPairs
}

// NewPort makes a port that serves listeners, of which there is at least one. Configure changes them, Serve begins. Those for TLS among them, whose connections
// never come here, keep requests for their hosts from wider ones.
func (s *Server) NewPort(listeners []mesh.Listener) *Port {
	ctx, cut := context.WithCancelCause(context.Background())
	p := &Port{server: s, ctx: ctx, cut: cut, leaving: newLeaving(), handed: NewArrivals()}
	p.Configure(listeners)
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	p.http = &http.Server{
		Handler: p, Protocols: protocols, ErrorLog: quietLog(s.o.Log), DisableGeneralOptionsHandler: true, // what the library answers nobody judges, logs or counts
		ReadHeaderTimeout: s.o.Limits.HeaderTime, IdleTimeout: s.o.Limits.IdleTime, MaxHeaderBytes: s.o.Limits.HeaderBytes,
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: s.o.Limits.Streams, SendPingTimeout: s.o.Limits.PingAfter, PingTimeout: s.o.Limits.PingWait},
		BaseContext: func(net.Listener) context.Context { return ctx }, ConnState: p.state,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return withConnection(ctx) },
	}
	return p
}

// endsTLS says whether requests come to a listener in TLS.
func endsTLS(l mesh.Listener) bool { return l.Protocol == mesh.ListenerHTTPS }

// Configure has requests and handshakes from now on judged by other listeners. Connections stay, and requests that run are not touched. It is
// called by one goroutine at a time.
func (p *Port) Configure(listeners []mesh.Listener) {
	g := &generation{table: NewTable(listeners), isTLS: slices.ContainsFunc(listeners, endsTLS)}
	if g.isTLS {
		var before *KeyPairs
		if was := p.current.Load(); was != nil {
			before = was.pairs
		}
		g.pairs = before.Next(listeners, endsTLS)
		var err error
		g.clients = map[*mesh.Listener]*clientCheck{}
		if g.tls, err = tlsConfigs(listeners, g.pairs, g.clients); err != nil {
			p.server.o.Log.Error(err, "certificates cannot be used")
		}
	}
	p.current.Store(g)
}

// Serve serves the connections of a socket, with TLS if the listeners want it, until the socket is closed or the port drains.
func (p *Port) Serve(socket net.Listener) {
	p.once.Do(func() { go func() { _ = p.http.Serve(p.handed) }() }) // until the port drains
	err := p.http.Serve(&tlsIfWanted{socket, p, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetConfigForClient: p.configFor}})
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		p.server.o.Log.Error(err, "serving ended")
	}
}

// Drain tells clients to go elsewhere, for a moment, then takes no more connections and requests, waits for those that run, and cuts what is left when ctx ends.
func (p *Port) Drain(ctx context.Context) {
	p.leaving.begin(ctx, p.server.o.Limits.LeaveTime)
	p.plain.leave(ctx)       // first: they may have something to hand over
	_ = p.http.Shutdown(ctx) // its error is ctx's, which ends what follows too
	select {
	case <-p.running.none():
	case <-ctx.Done():
		p.cut(errCut)
		p.http.Close()
		p.plain.close()
		<-p.running.none()
	}
	p.cut(nil)
	p.http.Close()
	p.plain.close()
	p.plain.wait.Wait()
}

// configFor finds the TLS side of the listener that a client's name belongs to.
func (p *Port) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	g := p.current.Load()
	if config, _ := g.tls.best(serverName(hello.ServerName)); config != nil {
		return config, nil
	}
	return nil, errNoCertificate
}

// tlsIfWanted wraps connections in TLS if the listeners of the moment want it. Those without it the library gets only if they bring more than plain requests.
type tlsIfWanted struct {
	net.Listener
	port   *Port
	config *tls.Config
}

// Accept waits for the next connection.
func (l *tlsIfWanted) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		switch {
		case err != nil:
			return nil, err
		case l.port.current.Load().isTLS:
			return tls.Server(conn, l.config), nil
		case l.port.server.library || l.port.inside:
			return conn, nil
		}
		l.port.plain.serve(l.port, conn)
	}
}

// state follows the library's connections.
func (p *Port) state(nc net.Conn, s http.ConnState) {
	p.leaving.state(nc, s)
	if h, ok := nc.(*handed); ok && s == http.StateNew {
		close(h.taken)
	}
}

// ServeHTTP answers one request.
func (p *Port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.running.begin()
	defer p.running.end()
	s := p.server
	t := &trip{began: s.o.Now(), reason: ReasonNone, grpc: isGRPC(r), visit: visitOf(r.Context())}
	caller := tracing.Edge
	if t.visit != nil { // who visits has proved who they are
		caller = tracing.Server
	}
	t.span = s.o.Tracer.Start(caller, "gateway request", r.Header.Get(headerTrace))
	a := &t.answer
	*a = answer{ResponseWriter: w, control: *http.NewResponseController(w), stall: s.o.Limits.StallTime, now: s.o.Now}
	if plain, ok := w.(*plainAnswer); ok {
		a.until = plain.conn.writeUntil // it is still in force
	}
	if r.ProtoMajor == 1 {
		if r.ContentLength != 0 {
			a.upload = s.uploadOf(t, r)
		}
		if r.Header["Expect"] != nil { // the library will write before we do
			a.begin()
		}
	} else { // each stream has a deadline of its own
		a.watch = newWatch(s.o.Limits.StallTime, func() { _ = a.control.SetWriteDeadline(time.Unix(1, 0)) })
	}
	if r.Header.Get("Upgrade") == "" && (p.leaving.on() || t.visit.left()) {
		farewell(w.Header())
	}
	s.metrics.running.Inc()
	defer s.metrics.running.Dec()
	defer func() {
		broken := recover()
		a.end()
		if broken != nil {
			a.linger(false)
			t.reason = ReasonAborted
			if t.timeUp() {
				t.reason = ReasonTimeout
			}
			if t.stalled.Load() {
				t.reason = ReasonStalled
			}
			if t.revoked() {
				t.reason, t.err = ReasonRevoked, errRevoked
			}
			if cause := context.Cause(r.Context()); errors.Is(cause, errCut) {
				t.reason, t.err = ReasonDrained, cause
			}
			if broken == http.ErrAbortHandler && t.grpc && a.status != 0 { //nolint:errorlint // it is what was panicked with
				abortRPC(a, t)
				s.done(t, a, r)
				return
			}
			s.done(t, a, r)
			panic(broken) // it tells the library to end the connection, so that no half answer is taken for a whole one
		}
		s.done(t, a, r)
		a.linger(true)
	}()
	t.from = clientOf(r)
	who, size := askerOf(t), headSize(r)
	if !s.heads.take(who, size) {
		dropHead(r)
		s.refuse(t, a, &Refusal{http.StatusServiceUnavailable, ReasonHeaderMemory, nil})
		return
	}
	defer s.heads.give(who, size)
	var refusal *Refusal
	g := p.current.Load()
	table := g.table
	t.generation = s.standing.generation.Load()
	if !oneHost(r) {
		s.refuse(t, a, &Refusal{http.StatusBadRequest, ReasonBadHost, nil})
		return
	}
	if refusal = malformed(r); refusal != nil {
		s.refuse(t, a, refusal)
		return
	}
	if s.loops(r) {
		s.refuse(t, a, &Refusal{http.StatusLoopDetected, ReasonLoop, nil})
		return
	}
	if r.ProtoMajor == 2 {
		trimValues(r.Header)
	}
	t.asked.server, t.asked.trip, t.asked.came = s, t, r
	t.sent.server, t.sent.trip, t.sent.came, t.sent.sent = s, t, r, true
	if v := t.visit; v != nil {
		if err := s.admit(t); err != nil { // who may not ask learns nothing of the routes
			s.refuse(t, a, &Refusal{http.StatusForbidden, ReasonDenied, err})
			return
		}
		table = v.Table()
	}
	if t.found, refusal = find(table, r); refusal != nil {
		if refusal.Reason == ReasonMisdirected && (r.TLS != nil) != g.isTLS { // nothing will ever be found for this connection
			a.Header().Set("Connection", "close")
		}
		s.refuse(t, a, refusal)
		return
	}
	if err := g.clients[t.listener].admits(r); err != nil {
		a.Header().Set("Connection", "close") // another one may prove more
		s.refuse(t, a, &Refusal{http.StatusMisdirectedRequest, ReasonClientCertificate, err})
		return
	}
	s.serve(t, a, r)
}
