// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// keepAlive notices an endpoint that vanished without a word while a stream is silent: after 180 s a probe each 180 s, nine times.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 180 * time.Second, Interval: 180 * time.Second, Count: 9}

// maxAttempts bounds how many endpoints are tried for one stream. Endpoints that failed lately are tried last, so who meets this many failures
// stands before a service that is down, and is told so rather sooner.
const maxAttempts = 16

// dialled is a connection to an endpoint. Its owner calls done once, with how it went.
type dialled struct {
	conn      *endpointConn
	candidate candidate
	service   mesh.ServiceKey // that counts the stream
	id        string          // opaque name of the endpoint
	ready     int             // how many endpoints as near as this one there were to choose from
	gone      string          // see headerGone
}

// dial connects to one of the target's endpoints: one after the other, within one deadline, until one accepts. Endpoints are
// looked up anew for each attempt, for one that just failed may be gone already and another one there.
func (s *Server) dial(ctx context.Context, c *config, t target, avoid map[string]struct{}) (dialled, *Refusal) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Limits.ConnectTimeout)
	defer cancel()
	tried := map[string]struct{}{}
	var failures error
	reason := ReasonConnect
	for view := s.live.Load(); ; view = s.live.Load() {
		candidates := c.candidates(view, t, s.own(view, c))
		if len(candidates) == 0 && failures == nil {
			return dialled{}, &Refusal{http.StatusServiceUnavailable, ReasonNoEndpoint, fmt.Errorf("service %s in network %q", t.service.Key(), c.network)}
		}
		pick, id, ok := s.balancer.begin(attempt{c.network, t.service.Key(), candidates, tried, avoid, t.tls.Out(s.o.Now())})
		if !ok {
			return dialled{}, &Refusal{http.StatusServiceUnavailable, reason, failures}
		}
		tried[pick.uid] = struct{}{}
		conn, err := s.connect(ctx, pick, len(tried) < len(candidates), t.tls)
		if err == nil {
			t.tls.Agreed(pick.uid)
			return dialled{conn: conn, candidate: pick, id: id, ready: asNear(candidates, pick), gone: s.balancer.gone(c.network, candidates, avoid)}, nil
		}
		s.balancer.end(pick.uid)
		if errors.Is(ctx.Err(), context.Canceled) {
			return dialled{}, &Refusal{http.StatusServiceUnavailable, ReasonClientGone, err} // says nothing of the endpoint
		}
		failures = errors.Join(failures, err)
		if errors.Is(err, backendtls.ErrHandshake) {
			s.distrust(t.tls, pick.uid, pick.name, err)
			reason = ReasonBackendTLS
		} else {
			s.eject(pick, err)
		}
		if ctx.Err() != nil || len(tried) == maxAttempts {
			return dialled{}, &Refusal{http.StatusServiceUnavailable, reason, failures}
		}
	}
}

// own is the gateway's own pod, by which endpoints are near or far; nil if it is not known.
func (s *Server) own(v *directory.View, c *config) *mesh.Workload {
	if !s.o.Address.IsValid() {
		return nil
	}
	return v.WorkloadAt(c.network, s.o.Address)
}

// asNear counts the candidates of a rank: whoever wants to know them all gets no other ones as long as one of these is there.
func asNear(candidates []candidate, as candidate) int {
	n := 0
	for _, c := range candidates {
		if c.rank == as.rank {
			n++
		}
	}
	return n
}

// connect makes one attempt. With others left it is not given the whole time.
func (s *Server) connect(ctx context.Context, to candidate, others bool, settings *backendtls.Settings) (*endpointConn, error) {
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.o.Limits.AttemptTimeout)
		defer cancel()
	}
	began := s.o.Now()
	conn, err := s.o.Dial(ctx, to.dial)
	s.metrics.dialSeconds.Observe(s.o.Now().Sub(began).Seconds())
	if err != nil {
		s.metrics.dialFailures.Inc()
		return nil, fmt.Errorf("endpoint %s: %w", to.name, err)
	}
	if settings != nil {
		secure, err := settings.Client(ctx, conn, "", s.o.Limits.ConnectTimeout)
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", to.name, err)
		}
		conn = &encrypted{secure, conn}
	}
	return &endpointConn{Conn: conn}, nil
}

// eject leaves an endpoint out for a while. It is logged when it begins, not each time that an endpoint is tried for want of a better one.
func (s *Server) eject(c candidate, err error) {
	out, already := s.balancer.failed(c.uid)
	if already {
		return
	}
	s.metrics.ejections.Inc()
	s.o.Log.Info("endpoint left out", "workload", c.name, "endpoint", c.dial.String(), "for", out.String(), "cause", err.Error())
}

// distrust counts a handshake that failed, and leaves the endpoint out for a while for who would speak TLS to it by the same settings.
func (s *Server) distrust(settings *backendtls.Settings, uid, name string, err error) {
	s.metrics.tlsFailures.Inc()
	if out := settings.Failed(uid, s.o.Now()); out > 0 {
		s.metrics.ejections.Inc()
		s.o.Log.Info("endpoint left out for its TLS", "workload", name, "for", out.String(), "cause", err.Error())
	}
}

// dialTCP is the Dial that a Server uses unless told otherwise.
func dialTCP(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// endpointConn remembers whether the endpoint said anything, and whether it left before it did.
type endpointConn struct {
	relay.Conn
	received atomic.Int64
	spoken   atomic.Bool // something was written, or is being written: the answer may overtake the end of Write
	left     atomic.Bool // the client ended its side, so that the endpoint may well end the rest
	mute     atomic.Bool // the endpoint ended its side after it was spoken to and before it said anything
}

// Read counts.
func (c *endpointConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	c.note(err)
	return n, err
}

// Write takes note.
func (c *endpointConn) Write(p []byte) (int, error) {
	c.spoken.Store(true)
	n, err := c.Conn.Write(p)
	c.note(err)
	return n, err
}

// note looks whether an error is the endpoint's leaving. Errors that we cause ourselves by ending the connection are not.
func (c *endpointConn) note(err error) {
	ours := err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || c.left.Load()
	if !ours && c.received.Load() == 0 && c.spoken.Load() {
		c.mute.Store(true)
	}
}

// encrypted says whether TLS is spoken with the endpoint.
func (c *endpointConn) encrypted() bool {
	_, yes := c.Conn.(*encrypted)
	return yes
}

// CloseWrite ends the client's direction.
func (c *endpointConn) CloseWrite() error {
	c.left.Store(true)
	return c.Conn.CloseWrite()
}

// Reset ends the connection so that the endpoint sees an error and takes a broken stream for no complete one.
func (c *endpointConn) Reset(code uint32) error {
	if r, ok := c.Conn.(interface{ Reset(code uint32) error }); ok {
		return r.Reset(code)
	}
	if tcp, ok := c.Conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is over
	}
	return c.Conn.Close()
}

// judge tells the balancer how the endpoint did: a proxy that ends a connection before its first byte has not even begun a
// handshake, so it is not there, whatever accepted the connection. A client that leaves first says nothing of the endpoint.
func (s *Server) judge(d dialled) {
	switch {
	case d.conn.received.Load() > 0:
		s.balancer.succeeded(d.candidate.uid)
	case d.conn.mute.Load() && !d.conn.encrypted(): // which may be about what we proved
		s.eject(d.candidate, errors.New("ended before its first byte"))
	}
	s.balancer.end(d.candidate.uid)
}
