// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Engine keeps the answer of Build for a state that changes, and does work in proportion to what a change touches: one pod's
// readiness costs that pod and the services that it is behind, whatever else the world holds. One goroutine owns it.
type Engine struct {
	x       *index
	answers map[serviceName]*answer
	sums    totals
	exports []serviceName                       // sorted
	keys    []mesh.ServiceKey                   // the same, as gateways are told
	wanted  map[mesh.ServiceKey][]world.Cluster // services that need a VIP
	slices  map[world.Key][]string              // slice → UIDs that it made
	doors   map[string]*mesh.Workload           // gateways of other networks
	peers   map[string]*mesh.Policy             // policies that stand for PeerAuthentications
	doubts  map[world.ObjectRef][]Finding       // about PeerAuthentications
	gates   gateways                            // as last worked out
	routed  multi[string, serviceName]          // namespace → services that need its automatic waypoint
	limits  map[world.Cluster]world.ObjectRef   // RemoteCluster on which a cluster's findings are
	out     Output
}

// NewEngine is an engine for an empty state.
func NewEngine(c world.Config) *Engine { return newEngine(newIndex(c)) }

// newEngine is NewEngine with an index that is empty.
func newEngine(x *index) *Engine {
	e := &Engine{
		x: x, routed: multi[string, serviceName]{}, answers: map[serviceName]*answer{}, sums: newTotals(), wanted: map[mesh.ServiceKey][]world.Cluster{},
		slices: map[world.Key][]string{}, doors: map[string]*mesh.Workload{}, peers: map[string]*mesh.Policy{},
		limits: map[world.Cluster]world.ObjectRef{},
		out: Output{
			Mesh: mesh.NewSnapshot(), Findings: map[world.ObjectRef][]Finding{}, Gateways: map[world.Key]*GatewayPlan{},
			GatewayAddresses: map[world.Key][]world.GatewayAddress{}, Scopes: map[world.Key]ScopeStatus{},
			Remotes: map[world.Cluster]RemoteCount{}, Listeners: map[world.ObjectRef][]ListenerState{}, AttachedSets: map[world.Key]int{},
		},
	}
	e.x.answerOf = func(n serviceName) *answer { return e.answers[n] }
	return e
}

// Output is the whole answer. Its maps belong to the engine: they are valid, and to be read only, until the next Apply.
func (e *Engine) Output() Output {
	out := e.out
	if out.WantVIPs = maps.Clone(e.wanted); len(out.WantVIPs) == 0 {
		out.WantVIPs = nil
	}
	out.WantObjects, out.WantWaypoints = sortedRefs(e.gates.wanted), wantedWaypoints(e.routed)
	return out
}

// Apply takes in a delta and gives what it changed. The delta's values are kept, its maps are not.
func (e *Engine) Apply(d world.Delta) Change {
	t := newTouched()
	e.x.looked = 0
	e.x.fold(d, t)
	r := &revision{
		e: e, t: t, scopes: t.scopes, remotes: set[world.Cluster]{},
		change: Change{
			Mesh: mesh.Delta{
				Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{},
				Policies: map[string]*mesh.Policy{}, Gateways: map[mesh.GatewayKey]*mesh.Gateway{},
			},
			Findings: map[world.ObjectRef][]Finding{}, Gateways: map[world.Key]*GatewayPlan{},
			GatewayAddresses: map[world.Key]*[]world.GatewayAddress{}, Scopes: map[world.Key]*ScopeStatus{},
			Remotes: map[world.Cluster]*RemoteCount{}, VIPs: map[mesh.ServiceKey][]world.Cluster{},
			Listeners: map[world.ObjectRef]*[]ListenerState{}, AttachedSets: map[world.Key]*int{}, Objects: map[world.ObjectRef]bool{}, Waypoints: map[string]bool{},
		},
	}
	if len(t.doors) > 0 {
		r.doors()
	}
	r.imports()
	exportsChanged := r.services()
	served := &served{x: e.x, takesPart: e.x.takesPart(func(n serviceName) *answer { return e.answers[n] })}
	for k := range t.pods {
		p := e.x.state.Pods[k]
		if e.x.refreshClaim(k, p) {
			r.remotes.add(k.Cluster)
		}
		r.workload(string(k.Cluster)+"//Pod/"+k.Namespace+"/"+k.Name, e.x.podWorkload(k, p, served))
	}
	for k := range t.slices {
		r.slice(k, e.x.sliceWorkloads(k, served))
	}
	before := e.gates
	if t.gateways || t.routes {
		r.gates()
	}
	r.policies()
	if exportsChanged {
		e.keys = e.x.serviceKeys(e.exports)
	}
	if t.gateways || t.routes || exportsChanged || t.guards {
		r.gateways(before)
	}
	r.statuses()
	r.change.Translated = len(t.names) + len(t.counts) + len(t.pods) + len(t.slices) + len(t.policies) + e.x.looked
	return r.change
}
