// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Build gives the whole answer for a whole state.
func Build(s *world.State, c world.Config) Output { return newIndex(c).build(s) }

// build is Build with an index that is empty.
func (x *index) build(s *world.State) Output {
	x.fold(world.Delta{Tables: s.Tables}, &touched{}) // nobody asks what it touches: everything is looked at
	out := Output{
		Mesh: mesh.NewSnapshot(), Findings: map[world.ObjectRef][]Finding{}, Gateways: map[world.Key]*GatewayPlan{},
		GatewayAddresses: map[world.Key][]world.GatewayAddress{}, Scopes: map[world.Key]ScopeStatus{}, Remotes: map[world.Cluster]RemoteCount{},
		Listeners: map[world.ObjectRef][]ListenerState{}, AttachedSets: map[world.Key]int{},
	}
	find := func(ref world.ObjectRef, f []Finding) {
		if len(f) > 0 {
			out.Findings[ref] = f
		}
	}
	tell := func(w *mesh.Workload) {
		if w != nil {
			out.Mesh.Workloads[w.UID] = w
		}
	}

	// What other networks' gateways there are, and what each remote cluster offers within its limits.
	everywhere := newTouched()
	everywhere.allDoors(x)
	x.doors = x.findDoors(everywhere.doors)
	for _, d := range x.doors {
		tell(d.workload())
	}
	for cluster, names := range x.namesOf {
		x.refreshImports(cluster, names)
	}

	// Services, and what they say of other networks.
	answers, sums := map[serviceName]*answer{}, newTotals()
	x.answerOf = func(n serviceName) *answer { return answers[n] }
	var exports []serviceName
	automatic := multi[string, serviceName]{}
	for n := range x.clustersOf {
		a := x.answer(n)
		answers[n] = a
		x.foldBound(n, bound{}, a.behind)
		x.foldConsumers(n, nil, a.consumers)
		sums.count(n, a, 1)
		if a.service != nil {
			out.Mesh.Services[a.service.Key()] = a.service
		}
		for _, w := range a.remote {
			tell(w)
		}
		if len(a.wantVIP) > 0 {
			if out.WantVIPs == nil {
				out.WantVIPs = map[mesh.ServiceKey][]world.Cluster{}
			}
			out.WantVIPs[x.serviceKey(n)] = a.wantVIP
		}
		if a.automatic {
			automatic.add(n.Namespace, n)
		}
		for _, c := range a.consumers {
			automatic.add(c.namespace, n)
		}
		if a.exported {
			exports = append(exports, n)
		}
		find(world.ObjectRef{Kind: world.KindService, Key: n.in(x.config.LocalCluster)}, a.findings)
	}
	out.WantWaypoints = wantedWaypoints(automatic)
	clear(x.routes) // what they refer to was not all worked out yet
	slices.SortFunc(exports, compareNames)

	// Pods, and endpoints that are none.
	served := &served{x: x, takesPart: x.takesPart(func(n serviceName) *answer { return answers[n] })}
	for k, p := range x.state.Pods {
		x.refreshClaim(k, p)
		tell(x.podWorkload(k, p, served))
	}
	for k := range x.state.EndpointSlices {
		for _, w := range x.sliceWorkloads(k, served) {
			tell(w)
		}
	}

	// Gateways, and policies, which are about them.
	g := x.gateways()
	x.serving = g.serving(x)
	exported := func(n serviceName) bool { return answers[n] != nil && answers[n].exported }
	for k := range x.state.AuthorizationPolicies {
		p, f := x.policy(k, exported)
		if p != nil {
			out.Mesh.Policies[p.Key()] = p
		}
		find(world.ObjectRef{Kind: world.KindAuthorizationPolicy, Key: k}, f)
	}
	maps.Copy(out.Mesh.Policies, x.peerPolicies())
	maps.Copy(out.Findings, x.peerFindings())
	maps.Copy(out.Findings, g.findings)
	out.Gateways, out.GatewayAddresses, out.Listeners, out.AttachedSets, out.WantObjects = g.plans, g.addresses, g.listeners, g.sets, sortedRefs(g.wanted)
	keys, guards := x.serviceKeys(exports), x.exportPolicies(exported)
	for k, config := range g.configs {
		out.Mesh.Gateways[k] = x.told(config, keys, guards)
	}

	// Sums.
	for k := range x.state.ServiceScopes {
		if k.Cluster == x.config.LocalCluster {
			status, f := x.scopeStatus(k, sums)
			out.Scopes[k] = status
			find(world.ObjectRef{Kind: world.KindServiceScope, Key: k}, f)
		}
	}
	clusters := set[world.Cluster]{}
	for cluster := range x.namesOf {
		clusters.add(cluster)
	}
	for cluster := range x.limits {
		clusters.add(cluster)
	}
	for cluster := range clusters {
		count, f, known := x.remoteCount(cluster, sums)
		if known {
			out.Remotes[cluster] = count
		}
		if limits := x.limits[cluster]; limits != nil {
			find(limits.Ref(), f)
		}
	}
	return out
}

// takesPart asks answers whether a cluster's definition counts.
func (x *index) takesPart(answerOf func(serviceName) *answer) takesPart {
	return func(c world.Cluster, n serviceName) bool {
		if c == x.config.LocalCluster {
			s := x.state.Services[n.in(c)]
			return s != nil && usable(s)
		}
		a := answerOf(n)
		if a == nil {
			return false
		}
		_, ok := a.taken[c]
		return ok
	}
}

func (x *index) serviceKeys(names []serviceName) []mesh.ServiceKey {
	if len(names) == 0 {
		return nil
	}
	out := make([]mesh.ServiceKey, 0, len(names))
	for _, n := range names {
		out = append(out, x.serviceKey(n))
	}
	return out
}
