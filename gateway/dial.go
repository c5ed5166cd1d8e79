// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
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
	t.draw = rand.Uint64()
	tried := map[string]struct{}{}
	var failures error
	reason := ReasonConnect
	var seen *directory.View
	var candidates []candidate
	for {
		if view := s.live.Load(); view != seen {
			seen, candidates = view, c.candidates(view, t, s.own(view, c))
		}
		if len(candidates) == 0 && failures == nil {
			return dialled{}, &Refusal{http.StatusServiceUnavailable, ReasonNoEndpoint, fmt.Errorf("service %s in network %q", t.service.Key(), c.network)}
		}
		pick, id, ok := s.balancer.begin(attempt{c.network, entry{t.service.Key(), t.port}, candidates, tried, avoid, t.tls.Out(s.o.Now())})
		if !ok {
			return dialled{}, &Refusal{http.StatusServiceUnavailable, reason, failures}
		}
		tried[pick.uid] = struct{}{}
		others := slices.ContainsFunc(candidates, func(c candidate) bool { // not by their number: of those that were tried some may be gone
			_, done := tried[c.uid]
			return !done
		})
		began := time.Now()
		conn, err := s.connect(ctx, pick, others, t.tls)
		if err == nil {
			t.tls.Agreed(pick.uid)
			return dialled{conn: conn, candidate: pick, id: id, ready: asNear(candidates, pick), gone: s.balancer.gone(c.network, candidates, pick.rank, avoid)}, nil
		}
		s.balancer.end(pick.uid)
		if errors.Is(ctx.Err(), context.Canceled) {
			return dialled{}, &Refusal{http.StatusServiceUnavailable, ReasonClientGone, err} // says nothing of the endpoint
		}
		failures = errors.Join(failures, err)
		hasty := ctx.Err() != nil && time.Since(began) < s.o.Limits.AttemptTimeout // others have had the time: that says little
		if errors.Is(err, backendtls.ErrHandshake) {
			reason = ReasonBackendTLS
			if !hasty {
				s.distrust(t.tls, pick.uid, pick.name, err)
			}
		} else if !hasty {
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
	if to.confined != "" {
		if err := confine(ctx, conn, to.confined); err != nil {
			conn.Close()
			return nil, fmt.Errorf("endpoint %s: tell it what the peer was let in for: %w", to.name, err)
		}
	}
	if settings != nil {
		secure, err := settings.Client(ctx, conn, "", s.o.Limits.ConnectTimeout)
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", to.name, err)
		}
		conn = &encrypted{secure, conn}
	}
	return &endpointConn{Conn: conn, answered: func() { s.balancer.succeeded(to.uid) }}, nil
}

// confine has the endpoint's proxy refuse what the peer was not let in for, which we cannot read. It comes before the first byte of the peer's.
func confine(ctx context.Context, conn relay.Conn, to string) error {
	words, err := stranger.AppendConfinement(nil, to)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	_, err = conn.Write(words) // which fits into what the kernel buffers, so this does not wait
	if !stop() {
		return context.Cause(ctx)
	}
	return err
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
	return relay.AsConn(conn), nil
}

// judge tells the balancer that a stream is over, and what its end says of the endpoint: see endpointConn.mute.
func (s *Server) judge(d dialled) {
	if d.conn.mute() {
		s.eject(d.candidate, errors.New("not a byte of an answer"))
	}
	s.balancer.end(d.candidate.uid)
}
