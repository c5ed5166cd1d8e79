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

// warden is a list of policies, indexed when it is first asked. As long as the list stays the same, over any number of configurations, so does its warden.
type warden struct {
	list  []*mesh.Policy
	index func() *authz.Index
	later func() *authz.Index // the same, of a stream whose requests a waypoint judges
}

func newWarden(list []*mesh.Policy) *warden {
	index := sync.OnceValue(func() *authz.Index { return authz.NewIndex(list) })
	return &warden{list, index, sync.OnceValue(func() *authz.Index { return index().Later() })}
}

// policies are the wardens of one generation of the configuration.
type policies struct {
	ofAll *warden
	of    map[mesh.ServiceKey]*warden
}

// newPolicies makes wardens of the lists that are not in before, the policies of the former configuration.
func newPolicies(g *mesh.Gateway, before policies) policies {
	wardenOf := func(list []*mesh.Policy, was *warden) *warden {
		if was != nil && mesh.SamePolicies(was.list, list) {
			return was
		}
		return newWarden(list)
	}
	p := policies{ofAll: wardenOf(g.Policies, before.ofAll), of: make(map[mesh.ServiceKey]*warden, len(g.ServicePolicies))}
	for _, of := range g.ServicePolicies {
		p.of[of.Service] = wardenOf(of.Policies, before.of[of.Service])
	}
	return p
}

// wardens are those that judge what goes to a target: the gateway's, and that of the service, if there is one.
func (p policies) wardens(t target) [2]*warden {
	key := t.named
	if !t.plain {
		key = t.key()
	}
	return [2]*warden{p.ofAll, p.of[key]}
}

// judge asks the policies of the gateway, and of the service if there is one, about a caller, whose destination it adds, and what it asks; nil: bytes. All that counts is what the peer proved by
// TLS, from where it is connected, and what it asks for. Where a stream goes on to a waypoint, that one judges the requests inside by the policies of the service.
func (c *config) judge(caller authz.Caller, r *gatewayhttp.Asked, t target) authz.Verdict {
	indexes := [2]*authz.Index{c.policies.ofAll.index()}
	if t.service != nil {
		switch of := c.policies.of[t.service.Key()]; {
		case of == nil:
		case t.service.Fronted() && !c.isWaypoint():
			indexes[1] = of.later()
		default:
			indexes[1] = of.index()
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
	warden := c.policies.of[t.named]
	if !v.Allowed || warden == nil {
		return v
	}
	of := authz.Judge([]*authz.Index{warden.index()}, authz.Caller{Source: from, Destination: netip.AddrPortFrom(t.vip, t.port)})
	if v.DryAllowed != v.Allowed && of.Allowed {
		return v
	}
	return of
}

// admits decides whether a peer may use the gateway at all.
func (c *config) admits(peer mesh.Identity) *Refusal {
	if _, ok := c.domains[peer.TrustDomain]; !ok && !peer.IsZero() { // without an identity it came by a port that asks for none
		return &Refusal{http.StatusUnauthorized, ReasonTrustDomain, fmt.Errorf("peer %s", peer)}
	}
	return nil
}

// authorize decides whether a stream may be, by a configuration. A stream that runs is asked again when the configuration changes.
func (s *Server) authorize(c *config, st *stream, t target) *Refusal {
	if refusal := c.admits(st.peer); refusal != nil {
		return refusal
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
	if st.turns(v) {
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
