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

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
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
	conn, peer, err := l.handshake(nc)
	if err != nil {
		s.handshakeFailed(nc, err)
		return
	}
	defer conn.Close()
	l.add(conn)
	defer l.remove(conn)
	for {
		// At most HBONE.MaxStreams requests are open at once.
		request, err := conn.Accept(s.hard)
		if err != nil {
			return // the connection is over, or the gateway is
		}
		l.wait.Go(func() { l.handle(request, peer, nc.RemoteAddr()) })
	}
}

// handshake proves who is there. Slots bound how many may be at this at once.
func (l *listener) handshake(nc net.Conn) (*hbone.Conn, mesh.Identity, error) {
	s := l.server
	from := addressOf(nc.RemoteAddr())
	if !s.handshakes.take(from) {
		s.metrics.limited.WithLabelValues("handshakes").Inc()
		return nil, mesh.Identity{}, errLimit
	}
	defer s.handshakes.give(from)
	ctx, cancel := context.WithTimeout(s.hard, s.o.Limits.HandshakeTimeout)
	defer cancel()
	secure := tls.Server(nc, s.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, mesh.Identity{}, err
	}
	peer, err := mtls.Peer(secure.ConnectionState())
	if err != nil {
		return nil, mesh.Identity{}, err
	}
	return hbone.NewServer(secure, s.o.HBONE), peer, nil
}

// errLimit ends a connection that is one too many. It is counted where it is made.
var errLimit = errors.New("too many connections without an identity")

func (s *Server) handshakeFailed(nc net.Conn, err error) {
	if errors.Is(err, errLimit) {
		return // counted; a flood of lines would be a second attack
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
func (l *listener) handle(request *hbone.Request, peer mesh.Identity, outer net.Addr) {
	s := l.server
	r := s.begin(peer, outer, request.Authority)
	d, refusal := s.admit(request, peer)
	if refusal != nil {
		err := request.Reject(refusal.Status, hbone.Header{{Name: headerReason, Value: string(refusal.Reason)}})
		r.refused(refusal, err)
		return
	}
	defer s.streamQuota.give(peer)
	defer s.judge(d)
	defer d.conn.Close()
	r.dialled(d)
	stream, err := request.Accept(hbone.Header{
		{Name: headerEndpoint, Value: d.id},
		{Name: headerEndpoints, Value: strconv.Itoa(d.ready)},
	})
	if err != nil {
		r.refused(&Refusal{http.StatusServiceUnavailable, ReasonClientGone, err}, nil)
		return
	}
	defer stream.Close()
	r.opened()
	err = relay.Copy(s.hard, stream, d.conn, &r.stats)
	r.closed(err, l.timeUp())
}

// admit decides whether the stream is carried, and where to: it is, if there is no Refusal, and then counts against the peer's quota.
func (s *Server) admit(request *hbone.Request, peer mesh.Identity) (dialled, *Refusal) {
	c := s.config.Load()
	if c == nil {
		return dialled{}, &Refusal{http.StatusServiceUnavailable, ReasonNoConfig, nil}
	}
	t, refusal := c.resolve(s.live.Load(), peer, request.Authority)
	if refusal != nil {
		return dialled{}, refusal
	}
	if !s.streamQuota.take(peer) {
		s.metrics.limited.WithLabelValues("streams").Inc()
		return dialled{}, &Refusal{http.StatusServiceUnavailable, ReasonOverload, fmt.Errorf("%d streams in all", s.streamQuota.used())}
	}
	// The stream ends with the client's interest in it and with the gateway's life, whichever is first.
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	defer context.AfterFunc(s.hard, cancel)()
	d, refusal := s.dial(ctx, c, t, parseAvoid(request.Header.Get(headerAvoid)))
	if refusal != nil {
		s.streamQuota.give(peer)
	}
	return d, refusal
}
