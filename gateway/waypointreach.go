// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// reached is a connection to an endpoint in the mesh, wherever that is.
type reached struct {
	plan reach.Plan
	conn *reach.Conn
}

func (r *reached) close() {
	r.conn.Close()
	r.conn.Finish()
}

// reach connects to an endpoint of a stream's target, in whichever network, or to the workload that it is, until ctx or the stream ends: the client's interest may end before.
// trace is what the endpoint's proxy is told of the trace; "": nothing.
func (s *Server) reach(ctx context.Context, trace string, c *config, t target, st *stream) (*reached, *Refusal) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(st.ctx, cancel)()
	var header hbone.Header
	if trace != "" {
		header = hbone.Header{{Name: headerTrace, Value: trace}}
	}
	search := reach.Search[*reach.Conn]{
		Health: s.health, Random: rand.Uint64N,
		Decide: func(choice reach.Choice) (reach.Plan, *reach.Refusal) {
			if out := t.tls.Out(s.o.Now()); out != nil {
				maps.Copy(out, choice.Ejected.Endpoints)
				choice.Ejected.Endpoints = out
			}
			f := s.from(c, choice)
			f.IPv6, f.LocalOnly = t.vip.Is6(), t.far
			if t.service == nil {
				return f.ToWorkload(t.workload, netip.AddrPortFrom(t.vip, t.port), nil), nil
			}
			return f.Service(t.service, t.port)
		},
		Dial: func(ctx context.Context, plan reach.Plan) (*reach.Conn, *reach.Failure) {
			conn, failed := s.tunnels.Dial(ctx, s.o.Identity, plan, header, c.network)
			if failed != nil || t.tls == nil {
				return conn, failed
			}
			return s.secureInside(ctx, t.tls, plan, conn)
		},
		Down: func(plan reach.Plan) { s.tunnels.Watch(s.o.Identity, plan) },
		Failed: func(reach.Plan, *reach.Refusal) {
			if ctx.Err() == nil { // or it says nothing of the endpoint
				s.metrics.dialFailures.Inc()
			}
		},
	}
	meant := t.vip
	if !meant.IsValid() { // nobody asked for an address
		meant = netip.IPv4Unspecified()
	}
	plan, conn, why := search.Connect(ctx, netip.AddrPortFrom(meant, t.port))
	if revoked := st.revoked(); revoked != nil {
		if why == nil {
			(&reached{plan, conn}).close()
		}
		return nil, revoked
	}
	if why != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, &Refusal{http.StatusServiceUnavailable, ReasonClientGone, why}
	}
	if why != nil {
		reason := ReasonConnect
		if errors.Is(why, backendtls.ErrHandshake) {
			reason = ReasonBackendTLS
		}
		if plan.Picked == "" && t.service != nil {
			reason = ReasonNoEndpoint
		}
		return nil, &Refusal{http.StatusServiceUnavailable, reason, why}
	}
	return &reached{plan, conn}, nil
}

// secureInside speaks TLS in a tunnel to an endpoint that was connected. One that does not prove what it should is followed by the next one, as one that cannot be
// connected is: no byte of the stream was sent.
func (s *Server) secureInside(ctx context.Context, settings *backendtls.Settings, plan reach.Plan, conn *reach.Conn) (*reach.Conn, *reach.Failure) {
	secure, err := settings.Client(ctx, conn.Conn, "", s.o.Limits.ConnectTimeout)
	if err != nil {
		conn.Finish()
		name := plan.Dial.String()
		if w := plan.Endpoint; w != nil {
			name = w.Namespace + "/" + w.Name
		}
		err = fmt.Errorf("endpoint %s: %w", name, err)
		if !errors.Is(ctx.Err(), context.Canceled) { // or it says nothing of the endpoint
			s.distrust(settings, plan.Picked, name, err)
		}
		return nil, &reach.Failure{Refusal: &reach.Refusal{Status: http.StatusServiceUnavailable, Reason: reach.ReasonTLS, Err: err}, Inside: true}
	}
	settings.Agreed(plan.Picked)
	conn.Conn = &encrypted{secure, conn.Conn}
	return conn, nil
}

// reached notes where a stream goes.
func (r *record) reached(to *reached) {
	r.destination = to.plan.Dial.String()
	if w := to.plan.Endpoint; w != nil {
		r.workload, r.destinationCluster = w.Namespace+"/"+w.Name, w.Cluster
		r.endpoint = to.plan.Dial.Addr().String()
	}
}
