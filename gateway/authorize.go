// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// policies are those of one generation of the configuration. Each list is indexed when it is first asked.
type policies struct {
	ofAll func() *authz.Index
	of    map[mesh.ServiceKey]func() *authz.Index
	later map[mesh.ServiceKey]func() *authz.Index // the same, of a stream whose requests a waypoint judges
}

func newPolicies(g *mesh.Gateway) policies {
	index := func(list []*mesh.Policy) func() *authz.Index {
		return sync.OnceValue(func() *authz.Index { return authz.NewIndex(list) })
	}
	p := policies{ofAll: index(g.Policies), of: make(map[mesh.ServiceKey]func() *authz.Index, len(g.ServicePolicies)), later: make(map[mesh.ServiceKey]func() *authz.Index, len(g.ServicePolicies))}
	for _, of := range g.ServicePolicies {
		p.of[of.Service] = index(of.Policies)
		p.later[of.Service] = sync.OnceValue(func() *authz.Index { return p.of[of.Service]().Later() })
	}
	return p
}

// judge asks the policies of the gateway, and of the service if there is one, about a caller, whose destination it adds, and what it asks; nil: bytes. All that counts is what the peer proved by
// TLS, from where it is connected, and what it asks for. Where a stream goes on to a waypoint, that one judges the requests inside by the policies of the service.
func (c *config) judge(caller authz.Caller, r *gatewayhttp.Asked, t target) authz.Verdict {
	indexes := [2]*authz.Index{c.policies.ofAll()}
	if t.service != nil {
		of := c.policies.of
		if t.service.Waypoint != nil && !c.isWaypoint() {
			of = c.policies.later
		}
		if index := of[t.service.Key()]; index != nil {
			indexes[1] = index()
		}
	}
	caller.Destination = netip.AddrPortFrom(t.vip, t.port)
	return judgeBy(indexes[:], caller, r)
}

// judgeBy asks policies, which see the request if any asks for something of it.
func judgeBy(indexes []*authz.Index, caller authz.Caller, r *gatewayhttp.Asked) authz.Verdict {
	if r != nil && slices.ContainsFunc(indexes, (*authz.Index).AsksRequests) {
		caller.Request = r.Request()
	}
	return authz.Judge(indexes, caller)
}

// judgePlain asks them about a client without an identity: the gateway's policies about the port of the Gateway that it came by, and those of the
// service about the service's.
func (c *config) judgePlain(from netip.Addr, t target) authz.Verdict {
	v := c.judge(authz.Caller{Source: from}, nil, target{port: t.entry})
	index := c.policies.of[t.named]
	if !v.Allowed || index == nil {
		return v
	}
	of := authz.Judge([]*authz.Index{index()}, authz.Caller{Source: from, Destination: netip.AddrPortFrom(t.vip, t.port)})
	if v.DryAllowed != v.Allowed && of.Allowed {
		return v
	}
	return of
}

// authorize decides whether a stream may be, by a configuration. A stream that runs is asked again when the configuration changes.
func (s *Server) authorize(c *config, st *stream, t target) *Refusal {
	if _, ok := c.domains[st.peer.TrustDomain]; !ok && !st.peer.IsZero() { // without an identity it came by a port that asks for none
		return &Refusal{http.StatusUnauthorized, ReasonTrustDomain, fmt.Errorf("peer %s", st.peer)}
	}
	if t.carries != opaque {
		return nil // each request is judged for itself, or else what turns out to be inside
	}
	v := c.judge(authz.Caller{Peer: st.peer, Source: st.from}, nil, t)
	what := fmt.Sprintf("port %d of what is not exported", t.port)
	if t.plain {
		v = c.judgePlain(st.from, t)
		what = fmt.Sprintf("%s:%d", t.named, t.port)
	} else if t.service != nil {
		what = fmt.Sprintf("%s:%d", t.service.Key(), t.port)
	}
	if v.DryAllowed != v.Allowed {
		s.metrics.dryRun.Inc()
		s.o.Log.Info("policies in dry run would decide otherwise", "peer", st.peer.String(), "service", what,
			"allowed", v.Allowed, "dryRunAllowed", v.DryAllowed, "policy", v.DryPolicy)
	}
	switch {
	case v.Allowed:
		return nil
	case v.Policy == "":
		return &Refusal{http.StatusUnauthorized, ReasonDenied, fmt.Errorf("no policy allows %s to reach %s", st.peer, what)}
	default:
		return &Refusal{http.StatusUnauthorized, ReasonDenied, fmt.Errorf("policy %s denies %s to reach %s", v.Policy, st.peer, what)}
	}
}
