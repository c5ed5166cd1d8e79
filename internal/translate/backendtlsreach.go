// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// foldTLSPolicy notes for which Services a BackendTLSPolicy is: their ports may take requests, or no longer do.
func (x *index) foldTLSPolicy(k world.Key, was, now *world.BackendTLSPolicy, t *touched) {
	t.routes = true
	if was != nil && now != nil && slices.Equal(was.Targets, now.Targets) {
		return
	}
	targets := func(p *world.BackendTLSPolicy, note func(service, policy world.Key)) {
		if p == nil {
			return
		}
		for _, to := range p.Targets {
			service := k.In(k.Namespace, to.Service)
			note(service, k)
			for route := range x.routesTo[service] {
				x.recompile(route)
			}
		}
	}
	targets(was, x.policiesFor.remove)
	targets(now, x.policiesFor.add)
}

// hasTLSPolicy says whether a BackendTLSPolicy is for a port of a Service, valid or not.
func (x *index) hasTLSPolicy(s *world.Service, port uint16) bool {
	for k := range x.policiesFor[s.Key] {
		for _, to := range x.state.BackendTLSPolicies[k].Targets {
			named := func(p world.ServicePort) bool { return p.Port == port && p.Name == to.Port }
			if to.Service == s.Name && (to.Port == "" || slices.ContainsFunc(s.Ports, named)) {
				return true
			}
		}
	}
	return false
}

// referral is a Service that a route refers to.
type referral struct {
	service int  // its number in index.targeted
	leads   bool // the route sends there; else the reference is not granted, or means nothing
}

// reaching are the Gateways that send what they have looked into to some Services: by routes for requests, or for TLS that ends there. A reference that is not granted leads nowhere, and takes
// no place among a policy's ancestors. Of a Service that is not there those of its own namespace count, so that somebody says so. Routes that are accepted nowhere are not looked into: anybody
// may have as many as he likes.
func (x *index) reaching(targeted set[serviceName]) map[serviceName]set[*gate] {
	x.number(targeted)
	names, there := make([]serviceName, len(targeted)), make([]bool, len(targeted))
	for n, i := range x.targeted {
		names[i] = n
		_, there[i] = x.targetPorts(n.in(x.config.LocalCluster))
	}
	reached := map[*gate][]bool{} // by the Services' numbers: it is asked for each backend of each route
	for _, a := range x.applied {
		at := a.looksInto()
		if len(at) == 0 {
			continue
		}
		targets := x.targetsOf(a)
		for g := range at {
			to := reached[g]
			if to == nil {
				to = make([]bool, len(names))
				reached[g] = to
			}
			for _, r := range targets {
				to[r.service] = to[r.service] || there[r.service] && r.leads || !there[r.service] && a.ref.Namespace == names[r.service].Namespace
			}
		}
	}
	out := multi[serviceName, *gate]{}
	for g, to := range reached {
		for i, is := range to {
			if is {
				out.add(names[i], g)
			}
		}
	}
	return out
}

// number gives numbers to the Services that policies are for, unless they are the same as last time.
func (x *index) number(targeted set[serviceName]) {
	same := len(targeted) == len(x.targeted)
	for n := range targeted {
		_, known := x.targeted[n]
		same = same && known
	}
	if same {
		return
	}
	x.targeted = make(map[serviceName]int, len(targeted))
	for n := range targeted {
		x.targeted[n] = len(x.targeted)
	}
	x.targetsSeen++
}

// looksInto are the Gateways where a route is accepted and knows what it passes on: not TCP, whose clients may speak TLS with the backend themselves.
func (a *applicant) looksInto() set[*gate] {
	var out set[*gate]
	for i := range a.fits {
		f := &a.fits[i]
		if a.said[f.parent].reason != "" {
			continue
		}
		g := a.stays[f.stay].gate
		switch a.ref.Kind {
		case world.KindHTTPRoute, world.KindGRPCRoute:
		case world.KindTLSRoute:
			if !g.endsTLS(f.at) {
				continue
			}
		default:
			return nil
		}
		if out == nil {
			out = set[*gate]{}
		}
		out.add(g)
	}
	return out
}

// endsTLS says whether any of some listeners does.
func (g *gate) endsTLS(at []int) bool {
	for _, i := range at {
		if protocolOf(g.verdicts[i].listener) == mesh.ListenerTLSTerminate {
			return true
		}
	}
	return false
}

// targetsOf are those of the Services in x.targeted that a route refers to, from memory if it was asked about the same ones before: a route may have hundreds of backends.
func (x *index) targetsOf(a *applicant) []referral {
	if a.ref.Kind == world.KindTLSRoute {
		return x.referrals(streamTargets(a.ref, tlsRules(x.state.TLSRoutes[a.ref.Key])), func(yield func(mesh.ServiceKey) bool) {
			for i := range a.backends {
				if !yield(a.backends[i].Service) {
					return
				}
			}
		})
	}
	c := a.compiled
	if c.among != x.targetsSeen {
		r := x.state.HTTPRoutes[a.ref.Key]
		if a.ref.Kind == world.KindGRPCRoute {
			r = likeHTTP(x.state.GRPCRoutes[a.ref.Key])
		}
		c.targets, c.among = x.referrals(backendsOf(r), c.route.Reached()), x.targetsSeen
	}
	return c.targets
}

// referrals are those of the Services in x.targeted that are among some to which a route refers, and whether they are among those that it leads to.
func (x *index) referrals(refers []world.Key, leads func(yield func(mesh.ServiceKey) bool)) []referral {
	found := map[serviceName]int{}
	for _, k := range refers {
		n := nameOf(k)
		if i, is := x.targeted[n]; is {
			found[n] = i
		}
	}
	if len(found) == 0 {
		return nil
	}
	to := set[mesh.ServiceKey]{}
	for s := range leads {
		to.add(s)
	}
	out := make([]referral, 0, len(found))
	for n, i := range found {
		out = append(out, referral{i, to.has(x.serviceKey(n))})
	}
	return out
}
