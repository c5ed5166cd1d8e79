// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// What the policies that target one Service may be and hold together, and those of all Services. Whoever may write policies in one namespace must not be able to make
// what the gateways of all are told as large as they like: what is more than they take in one answer is refused as a whole, and no later change would reach them. No
// Service has nearly as much.
const (
	maxGuards      = 256
	maxGuardValues = 8192      // rules, and values in them
	maxGuardBytes  = 256 << 10 // on the wire
	maxGuardLoad   = 40 << 20  // of all Services, on the wire: beside maxWaypointLoad, maxGatewayCAs and maxGatePolicies, and within what is taken in one answer
	guardedLoad    = 1 << 10   // what a Service weighs besides its policies: its name, or what says that it is closed
)

// burden is how many policies target a Service, how many values they hold, and what they take on the wire.
type burden struct{ policies, values, bytes int }

// foldGuard notes which services a policy is about, and that gateways may have to be told.
func (x *index) foldGuard(k world.Key, was, now *world.AuthorizationPolicy, t *touched) {
	if k.Cluster != x.config.LocalCluster {
		return
	}
	before := guarded(was)
	b := x.burdenOf(was, before) // as long as it is compiled
	delete(x.compiled, k)
	t.guards = true
	for n := range before {
		x.guardsOf.remove(n, k)
		x.burden(n, burden{-b.policies, -b.values, -b.bytes}, t)
	}
	after := guarded(now)
	b = x.burdenOf(now, after)
	for n := range after {
		x.guardsOf.add(n, k)
		x.burden(n, b, t)
	}
}

// burdenOf is what a policy adds to each Service that it targets.
func (x *index) burdenOf(p *world.AuthorizationPolicy, targets set[serviceName]) burden {
	if len(targets) == 0 {
		return burden{}
	}
	out := burden{policies: 1, values: valuesOf(p) * max(1, len(x.domainNames()))}
	if c := x.compile(p).policy; c != nil {
		out.bytes = c.Size()
	}
	return out
}

func (x *index) burden(n serviceName, more burden, t *touched) {
	before := x.overburdened(n)
	now := x.burdens[n]
	now = burden{now.policies + more.policies, now.values + more.values, now.bytes + more.bytes}
	if x.burdens[n] = now; now == (burden{}) {
		delete(x.burdens, n)
	}
	if x.overburdened(n) != before {
		t.targeting(x, n.Namespace)
	}
	x.crowded.stale = true
}

// guarded are the Services that a policy targets.
func guarded(p *world.AuthorizationPolicy) set[serviceName] {
	out := set[serviceName]{}
	if p != nil {
		for _, t := range p.Targets {
			if t.Group == "" && t.Kind == targetService {
				out.add(serviceName{p.Namespace, t.Name})
			}
		}
	}
	return out
}

// overburdened says whether more policies target a Service than gateways are told of: nobody is let in to it until there are fewer.
func (x *index) overburdened(n serviceName) bool {
	b := x.burdens[n]
	return b.policies > maxGuards || b.values > maxGuardValues || b.bytes > maxGuardBytes
}

// crowdedOut is which Services are closed because the policies of all are too many.
type crowdedOut struct {
	out   set[serviceName]
	most  int  // bytes of all
	stale bool // burdens are others now
}

// shuts says whether nobody is let in to a Service, as gateways are not told of its policies.
func (x *index) shuts(n serviceName) bool { return x.overburdened(n) || x.crowded.out.has(n) }

// settleCrowd finds which Services are closed as all together have too much: each namespace has a share, and of what is more than it the lightest Services come first. A namespace
// that wants little has all it wants, whatever others do.
func (x *index) settleCrowd(t *touched) {
	if !x.crowded.stale {
		return
	}
	x.crowded.stale = false
	of, loads := map[string][]serviceName{}, map[string]int{}
	load := func(n serviceName) int {
		if x.overburdened(n) {
			return guardedLoad
		}
		return guardedLoad + x.burdens[n].bytes
	}
	for n := range x.burdens {
		of[n.Namespace] = append(of[n.Namespace], n)
		loads[n.Namespace] += load(n)
	}
	was := x.crowded.out
	x.crowded.out = set[serviceName]{}
	if share := fairShare(slices.Collect(maps.Values(loads)), x.crowded.most); share > 0 {
		for namespace, all := range of {
			if loads[namespace] <= share {
				continue
			}
			slices.SortFunc(all, func(a, b serviceName) int { return cmp.Or(cmp.Compare(load(a), load(b)), compareNames(a, b)) })
			mine := 0
			for _, n := range all {
				if mine += load(n); mine > share {
					x.crowded.out.add(n)
				}
			}
		}
	}
	changed := set[string]{}
	for _, pair := range [][2]set[serviceName]{{was, x.crowded.out}, {x.crowded.out, was}} {
		for n := range pair[0] {
			if !pair[1].has(n) {
				changed.add(n.Namespace)
			}
		}
	}
	for namespace := range changed {
		t.targeting(x, namespace)
	}
}

// closed stands for the policies of a Service that is shut.
func closed(n serviceName) *mesh.Policy {
	return &mesh.Policy{Name: "too-many-policies-for." + n.Name, Namespace: n.Namespace, Scope: mesh.PolicyWorkloads, Action: mesh.Deny, Rules: []mesh.PolicyRule{{}}}
}

func valuesOf(p *world.AuthorizationPolicy) int {
	n := 0
	for _, r := range p.Rules {
		n++
		for _, s := range r.From {
			for _, list := range [][]string{s.Principals, s.NotPrincipals, s.Namespaces, s.NotNamespaces, s.ServiceAccounts, s.NotServiceAccounts, s.IPBlocks, s.NotIPBlocks, s.TrustDomains, s.NotTrustDomains} {
				n += len(list)
			}
		}
		for _, o := range r.To {
			for _, list := range [][]string{o.Ports, o.NotPorts, o.Hosts, o.NotHosts, o.Methods, o.NotMethods, o.Paths, o.NotPaths} {
				n += len(list)
			}
		}
		for _, w := range r.When {
			n += len(w.Values) + len(w.NotValues)
		}
	}
	return n
}
