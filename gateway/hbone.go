// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
)

// Headers of an outer CONNECT and its answer that are ours. All are hints: a peer that does not know them loses nothing.
const (
	// headerEndpoint, in a 200, names the endpoint that was dialled, opaquely and stably.
	headerEndpoint = "x-isthmus-endpoint"
	// headerEndpoints, in a 200, says how many endpoints were ready.
	headerEndpoints = "x-isthmus-endpoints"
	// headerAvoid, in a CONNECT, lists endpoints by those names that the client would rather not get again.
	headerAvoid = "x-isthmus-avoid"
	// headerReason, in a refusal, says why.
	headerReason = "x-isthmus-reason"
)

// serve carries one accepted connection until it ends: TLS, then streams.
func (l *listener) serve(nc net.Conn) {
	s := l.server
	defer nc.Close()
	o, err := l.handshake(nc)
	if err != nil {
		s.handshakeFailed(nc, err)
		return
	}
	defer o.conn.Close()
	if !s.peers.take(o.peer) {
		s.metrics.limited.WithLabelValues("connections_per_peer").Inc()
		return
	}
	defer s.peers.give(o.peer)
	l.add(o.conn)
	defer l.remove(o.conn)
	defer s.idlers.add(o)()
	defer s.o.Source.Guard(o.conn)()
	defer o.drainInTime(s.o.Now())()
	for {
		// At most HBONE.MaxStreams requests are open at once.
		request, err := o.conn.Accept(s.hard)
		if err != nil {
			return // the connection is over, or the gateway is
		}
		l.wait.Go(func() {
			if l.visits != nil {
				l.receive(request, o)
			} else {
				l.handle(request, o)
			}
		})
	}
}

// handshake proves who is there. Turns bound how many handshakes are computed at once; who is silent holds none.
func (l *listener) handshake(nc net.Conn) (*outer, error) {
	s := l.server
	unknown, err := s.strangers.Enter(nc, s.turns)
	if err != nil {
		return nil, err
	}
	defer unknown.Leave()
	ctx, cancel := context.WithTimeout(s.hard, s.o.Limits.HandshakeTimeout)
	defer cancel()
	if err := unknown.Hello(ctx); err != nil {
		return nil, err
	}
	if err := unknown.Turn(ctx); err != nil {
		return nil, err
	}
	transport := hbone.NewTransport(nc)
	transport.Conn = unknown
	secure := tls.Server(transport, s.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	transport.Conn = nc
	state := secure.ConnectionState()
	peer, err := mtls.Peer(state)
	if err != nil {
		return nil, err
	}
	return &outer{conn: hbone.NewServer(secure, s.o.HBONE), peer: peer, proved: state.PeerCertificates[0].NotAfter, address: nc.RemoteAddr()}, nil
}

func (s *Server) handshakeFailed(nc net.Conn, err error) {
	if errors.Is(err, stranger.ErrCrowded) {
		s.metrics.limited.WithLabelValues("handshakes").Inc()
		return // a flood of lines would be a second attack
	}
	reason := "other"
	if refused, ok := errors.AsType[*mtls.VerifyError](err); ok {
		reason = string(refused.Reason)
	} else if _, ok := errors.AsType[*mtls.IssueError](err); ok {
		reason = "no_certificate_of_ours"
	} else if errors.Is(err, context.DeadlineExceeded) {
		reason = "timeout"
	}
	s.metrics.handshakeFailures.WithLabelValues(reason).Inc()
	// Port scans and health checks of load balancers end here too, so this is not for everybody's log.
	s.o.Log.V(1).Info("handshake failed", "outer", nc.RemoteAddr().String(), "reason", reason, "cause", err.Error())
}

// handle answers one CONNECT and carries its stream.
func (l *listener) handle(request *hbone.Request, o *outer) {
	s, peer := l.server, o.peer
	r := s.begin(peer, o.address, request.Authority, request.Header)
	// The stream ends with the gateway's life, or when a policy turns against it. It is known before it is judged.
	ctx, end := context.WithCancelCause(s.hard)
	defer end(nil)
	st := &stream{peer: peer, from: addressOf(o.address), ctx: ctx, end: end}
	s.streams.add(st)
	defer s.streams.remove(st)
	d, refusal := s.admit(request, o, st)
	if refusal != nil {
		err := request.Reject(refusal.Status, hbone.Header{{Name: headerReason, Value: string(refusal.Reason)}})
		r.refused(refusal, err)
		return
	}
	defer s.idlers.carry(o)()
	defer s.streamQuota.give(peer)
	defer s.services.give(d.service)
	defer s.judge(d)
	defer d.conn.Close()
	r.dialled(d)
	answer := hbone.Header{{Name: headerEndpoint, Value: d.id}, {Name: headerEndpoints, Value: strconv.Itoa(d.ready)}}
	if d.gone != "" {
		answer = append(answer, hbone.Field{Name: headerGone, Value: d.gone})
	}
	tunnel, err := request.Accept(answer)
	if err != nil {
		r.refused(&Refusal{http.StatusServiceUnavailable, ReasonClientGone, err}, nil)
		return
	}
	defer tunnel.Close()
	r.opened()
	err = relay.Copy(ctx, tunnel, d.conn, &r.stats)
	r.closed(err, l.timeUp())
}

// enter decides whether a stream may be that came to a waypoint's port, or to another one. If it may, it counts against the quotas of its peer and its service.
func (s *Server) enter(request *hbone.Request, o *outer, st *stream, waypoint bool) (*config, target, *Refusal) {
	none := func(r *Refusal) (*config, target, *Refusal) { return nil, target{}, r }
	if s.config.Load() == nil {
		return none(unavailable(ReasonNoConfig, nil))
	}
	if s.o.Now().After(o.proved) {
		return none(&Refusal{http.StatusUnauthorized, ReasonExpired, fmt.Errorf("peer %s, until %s", o.peer, o.proved.UTC().Format(time.RFC3339))})
	}
	c, t, refusal := s.decide(request.Authority, st)
	if refusal != nil {
		return none(refusal)
	}
	if c.isWaypoint() != waypoint { // the Gateway has become one, or is none any more, and this port is about to drain
		return none(unavailable(ReasonNoConfig, nil))
	}
	if waypoint {
		if refusal := s.beyond(c, st, t); refusal != nil {
			return none(refusal)
		}
	}
	if refusal := s.takeStream(st, t.key()); refusal != nil {
		return none(refusal)
	}
	return c, t, nil
}

// admit decides whether the stream is carried, and where to: it is, if there is no Refusal, and then counts against the peer's quota.
func (s *Server) admit(request *hbone.Request, o *outer, st *stream) (dialled, *Refusal) {
	c, t, refusal := s.enter(request, o, st, false)
	if refusal != nil {
		return dialled{}, refusal
	}
	// The client's interest may end before the stream does.
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	defer context.AfterFunc(st.ctx, cancel)()
	d, refusal := s.dial(ctx, c, t, parseAvoid(request.Header.Get(headerAvoid)))
	if refusal == nil {
		d.conn.owe(s.o.Now)
	}
	if revoked := st.revoked(); revoked != nil {
		if refusal == nil {
			d.conn.Close()
			s.judge(d)
		}
		refusal = revoked
	}
	if d.service = t.service.Key(); refusal != nil {
		s.streamQuota.give(o.peer)
		s.services.give(d.service)
	}
	return d, refusal
}

// decide finds what a stream asks for and whether it may have it, by the present configuration, and notes that it was let in.
func (s *Server) decide(authority string, st *stream) (*config, target, *Refusal) {
	for {
		c := s.config.Load()
		t, refusal := c.resolve(s.live.Load(), st.peer, authority)
		if refusal == nil || refusal.Status == http.StatusServiceUnavailable {
			// Whoever may not use the gateway learns nothing of what is there and what is not.
			if denied := s.authorize(c, st, t); denied != nil {
				refusal = denied
			}
		}
		if refusal != nil {
			return nil, target{}, refusal
		}
		if s.streams.admit(st, c, t); s.config.Load() == c {
			return c, t, nil
		}
	}
}
