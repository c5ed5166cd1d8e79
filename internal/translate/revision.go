// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// revision is one Apply under way.
type revision struct {
	e       *Engine
	t       *touched
	scopes  set[world.Key]     // ServiceScopes whose status may change
	remotes set[world.Cluster] // remote clusters whose counts may change
	change  Change
}

// doors looks for other networks' gateways again, and at the services of networks whose gateways changed.
func (r *revision) doors() {
	e := r.e
	before, refused := e.x.doors, e.x.claims.doors
	after := e.x.findDoors(r.t.doors)
	for _, counts := range []map[world.Cluster]refusedDoors{refused, e.x.claims.doors} {
		for c := range counts {
			r.remotes.add(c)
		}
	}
	e.x.doors = after
	workloads := map[string]*mesh.Workload{}
	for _, d := range after {
		w := d.workload()
		workloads[w.UID] = w
	}
	for uid := range e.doors {
		if workloads[uid] == nil {
			r.workload(uid, nil)
		}
	}
	for uid, w := range workloads {
		r.workload(uid, w)
	}
	e.doors = workloads

	of := func(doors []door) map[string][]door {
		out := map[string][]door{}
		for _, d := range doors {
			out[d.network] = append(out[d.network], d)
		}
		return out
	}
	was, now := of(before), of(after)
	changed := map[string]bool{} // network → not only weights, which is so where a gateway has more or fewer pods
	for _, doors := range []map[string][]door{was, now} {
		for network := range doors {
			if !slices.Equal(was[network], now[network]) {
				changed[network] = !slices.EqualFunc(was[network], now[network], weightless)
			}
		}
	}
	if len(changed) == 0 {
		return
	}
	for c, i := range e.x.imports {
		behind(r, c, i.offers, changed)
	}
	if local := e.x.config.LocalCluster; e.x.several() {
		behind(r, local, e.x.namesOf[local], changed)
	}
}

// behind notes services of a cluster that may have pods on networks whose gateways changed.
func behind[V any](r *revision, c world.Cluster, services map[serviceName]V, changed map[string]bool) {
	some, entirely := false, false
	for network, all := range changed {
		if r.e.x.mayHavePodsOn(c, network) {
			some, entirely = true, entirely || all
		}
	}
	if !some {
		return
	}
	for n := range services {
		if entirely {
			r.t.names.add(n)
		} else {
			r.t.counts.add(n.in(c))
		}
	}
}

// imports looks again at what clusters offer.
func (r *revision) imports() {
	x := r.e.x
	byCluster := map[world.Cluster]set[serviceName]{}
	for c := range r.t.clusters {
		byCluster[c] = set[serviceName]{}
	}
	for n := range r.t.names {
		for c := range x.clustersOf[n] {
			if byCluster[c] == nil {
				byCluster[c] = set[serviceName]{}
			}
			byCluster[c].add(n)
		}
		for c, i := range x.imports {
			if i.knows(n) {
				if byCluster[c] == nil {
					byCluster[c] = set[serviceName]{}
				}
				byCluster[c].add(n)
			}
		}
	}
	for k := range r.t.counts {
		if byCluster[k.Cluster] == nil {
			byCluster[k.Cluster] = set[serviceName]{}
		}
		byCluster[k.Cluster].add(nameOf(k))
	}
	for c, names := range byCluster {
		for n := range x.refreshImports(c, names) {
			r.t.names.add(n)
		}
		r.remotes.add(c)
	}
}

// services works out every touched service again. It says whether what we export changed.
func (r *revision) services() bool {
	e := r.e
	exportsChanged := false
	r.counts()
	for n := range r.t.names {
		r.t.targeting(e.x, n.Namespace)
		r.t.guards = r.t.guards || len(e.x.guardsOf[n]) > 0
		before := e.answers[n]
		var after *answer
		if len(e.x.clustersOf[n]) > 0 {
			after = e.x.answer(n)
			e.answers[n] = after
		} else {
			delete(e.answers, n)
		}
		if before == nil {
			before = &answer{}
		}
		if after == nil {
			after = &answer{}
		}
		e.sums.count(n, before, -1)
		e.sums.count(n, after, 1)
		for _, a := range []*answer{before, after} {
			if a.decided.verdict != unmatched {
				r.scopes.add(a.decided.by)
			}
		}
		r.t.guards = e.x.foldBound(n, before.behind, after.behind) || r.t.guards
		r.t.guards = e.x.foldConsumers(n, before.consumers, after.consumers) || r.t.guards
		r.t.routes = r.t.routes || len(e.x.routesAt[n]) > 0
		e.x.touchRoutes(n)
		e.x.foldImported(n, before, after, r.t)
		r.automatic(n.Namespace, n, after.automatic)
		for _, c := range before.consumers {
			if !slices.ContainsFunc(after.consumers, func(a consumer) bool { return a.namespace == c.namespace }) {
				r.automatic(c.namespace, n, false)
			}
		}
		for _, c := range after.consumers {
			r.automatic(c.namespace, n, true)
		}
		r.participants(n, before, after)
		r.service(e.x.serviceKey(n), after.service)
		for uid := range before.remote {
			if after.remote[uid] == nil {
				r.workload(uid, nil)
			}
		}
		for uid, w := range after.remote {
			r.workload(uid, w)
		}
		if key := e.x.serviceKey(n); !slices.Equal(after.wantVIP, e.wanted[key]) {
			r.change.VIPs[key] = after.wantVIP
			if len(after.wantVIP) > 0 {
				e.wanted[key] = after.wantVIP
			} else {
				delete(e.wanted, key)
			}
		}
		if before.exported != after.exported {
			exportsChanged = true
			e.exports = without(e.exports, n)
			if after.exported {
				i, _ := slices.BinarySearchFunc(e.exports, n, compareNames)
				e.exports = slices.Insert(e.exports, i, n)
			}
		}
		r.findings(world.ObjectRef{Kind: world.KindService, Key: n.in(e.x.config.LocalCluster)}, after.findings)
	}
	return exportsChanged
}

// automatic notes whether a service needs a namespace's automatic waypoint: its own, or a consumer's.
func (r *revision) automatic(namespace string, n serviceName, needs bool) {
	routed := r.e.routed
	had := len(routed[namespace]) > 0
	if needs {
		routed.add(namespace, n)
	} else {
		routed.remove(namespace, n)
	}
	if has := len(routed[namespace]) > 0; has == had {
		return
	} else if _, told := r.change.Waypoints[namespace]; told {
		delete(r.change.Waypoints, namespace)
	} else {
		r.change.Waypoints[namespace] = has
	}
}

// without removes a name from a sorted list, in place: the list is the engine's own.
func without(names []serviceName, n serviceName) []serviceName {
	if i, ok := slices.BinarySearchFunc(names, n, compareNames); ok {
		return slices.Delete(names, i, i+1)
	}
	return names
}

// participants notes the pods of clusters that now take part in a service, or no longer do: on a network of ours they are told
// one by one, with the services that they are behind.
func (r *revision) participants(n serviceName, before, after *answer) {
	for _, pair := range [][2]*answer{{before, after}, {after, before}} {
		for c := range pair[0].taken {
			r.remotes.add(c)
			if _, both := pair[1].taken[c]; !both && r.e.x.meets(c) {
				r.t.endpointsOf(r.e.x, n.in(c))
			}
		}
	}
}

func (r *revision) slice(k world.Key, now map[string]*mesh.Workload) {
	for _, uid := range r.e.slices[k] {
		if now[uid] == nil {
			r.workload(uid, nil)
		}
	}
	for uid, w := range now {
		r.workload(uid, w)
	}
	if len(now) == 0 {
		delete(r.e.slices, k)
	} else {
		r.e.slices[k] = slices.Collect(maps.Keys(now))
	}
}

func (r *revision) policies() {
	e := r.e
	for k := range r.t.policies {
		p, findings := e.x.policy(k, e.exported)
		r.policy(k.Namespace+"/"+k.Name, p)
		r.findings(world.ObjectRef{Kind: world.KindAuthorizationPolicy, Key: k}, findings)
	}
	if !r.t.peers {
		return
	}
	now := e.x.peerPolicies()
	for key := range e.peers {
		if now[key] == nil {
			r.policy(key, nil)
		}
	}
	for key, p := range now {
		r.policy(key, p)
	}
	e.peers = now
	doubts := e.x.peerFindings()
	for ref := range e.doubts {
		if _, ok := doubts[ref]; !ok {
			r.findings(ref, nil)
		}
	}
	for ref, f := range doubts {
		r.findings(ref, f)
	}
	e.doubts = doubts
}

// exported says whether our own gateways let other clusters in to a service.
func (e *Engine) exported(n serviceName) bool { return e.answers[n] != nil && e.answers[n].exported }

// statuses sums up.
func (r *revision) statuses() {
	e := r.e
	for k := range r.scopes {
		ref := world.ObjectRef{Kind: world.KindServiceScope, Key: k}
		if e.x.state.ServiceScopes[k] == nil {
			if _, ok := e.out.Scopes[k]; ok {
				delete(e.out.Scopes, k)
				r.change.Scopes[k] = nil
				r.findings(ref, nil)
			}
			continue
		}
		status, findings := e.x.scopeStatus(k, e.sums)
		if was, ok := e.out.Scopes[k]; !ok || !reflect.DeepEqual(was, status) {
			e.out.Scopes[k] = status
			r.change.Scopes[k] = &status
		}
		r.findings(ref, findings)
	}
	// A RemoteCluster may have changed its mind about which cluster it means: what is said of it now counts.
	said := map[world.ObjectRef][]Finding{}
	for c := range r.remotes {
		count, findings, known := e.x.remoteCount(c, e.sums)
		was, had := e.out.Remotes[c]
		switch {
		case !known && had:
			delete(e.out.Remotes, c)
			r.change.Remotes[c] = nil
		case known && (!had || was != count):
			e.out.Remotes[c] = count
			r.change.Remotes[c] = &count
		}
		if old, ok := e.limits[c]; ok {
			delete(e.limits, c)
			if _, ok := said[old]; !ok {
				said[old] = nil
			}
		}
		if limits := e.x.limits[c]; limits != nil {
			e.limits[c] = limits.Ref()
			said[limits.Ref()] = findings
		}
	}
	for ref, findings := range said {
		r.findings(ref, findings)
	}
}

func (r *revision) workload(uid string, w *mesh.Workload) {
	replace(r.e.out.Mesh.Workloads, r.change.Mesh.Workloads, uid, w)
}

func (r *revision) service(k mesh.ServiceKey, s *mesh.Service) {
	replace(r.e.out.Mesh.Services, r.change.Mesh.Services, k, s)
}

func (r *revision) policy(k string, p *mesh.Policy) {
	replace(r.e.out.Mesh.Policies, r.change.Mesh.Policies, k, p)
}

func (r *revision) gateway(k mesh.GatewayKey, g *mesh.Gateway) {
	replace(r.e.out.Mesh.Gateways, r.change.Mesh.Gateways, k, g)
}

// replace sets one value and notes it as changed if it is another one.
func replace[K comparable, V any](in, changed map[K]*V, k K, v *V) {
	was, had := in[k]
	switch {
	case v == nil && had:
		delete(in, k)
		changed[k] = nil
	case v != nil && (!had || !reflect.DeepEqual(was, v)):
		in[k] = v
		changed[k] = v
	}
}

func (r *revision) findings(ref world.ObjectRef, now []Finding) {
	before := r.e.out.Findings[ref]
	if len(before) == len(now) && (len(now) == 0 || &before[0] == &now[0] || slices.Equal(before, now)) {
		return
	}
	if len(now) == 0 {
		delete(r.e.out.Findings, ref)
	} else {
		r.e.out.Findings[ref] = now
	}
	r.change.Findings[ref] = now
}
