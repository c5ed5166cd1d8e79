// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// gates looks at all local Gateways again. Whether one is served says whether a policy is in force.
func (r *revision) gates() {
	e := r.e
	e.gates = e.x.gateways()
	if serving := e.gates.serving(e.x); !maps.Equal(serving, e.x.serving) {
		e.x.serving = serving
		r.t.allTargeting(e.x)
	}
}

// gateways tells what became of them. before is what was worked out last.
func (r *revision) gateways(before gateways) {
	e := r.e
	now := e.gates
	for k := range before.configs {
		if now.configs[k] == nil {
			r.gateway(k, nil)
		}
	}
	guards := e.x.exportPolicies(e.exported)
	for k, config := range now.configs {
		r.gateway(k, e.x.told(config, e.keys, guards))
	}
	for ref := range before.findings {
		if _, ok := now.findings[ref]; !ok {
			r.findings(ref, nil)
		}
	}
	for ref, f := range now.findings {
		r.findings(ref, f)
	}
	keepUp(e.out.Gateways, now.plans, same, func(k world.Key, plan **GatewayPlan) {
		r.change.Gateways[k] = nil
		if plan != nil {
			r.change.Gateways[k] = *plan
		}
	})
	keepUp(e.out.Listeners, now.listeners, sameStates, func(ref world.ObjectRef, l *[]ListenerState) { r.change.Listeners[ref] = l })
	keepUp(e.out.AttachedSets, now.sets, same, func(k world.Key, n *int) { r.change.AttachedSets[k] = n })
	keepUp(e.out.GatewayAddresses, now.addresses, slices.Equal, func(k world.Key, a *[]world.GatewayAddress) { r.change.GatewayAddresses[k] = a })
	for o := range before.wanted {
		if !now.wanted.has(o) {
			r.change.Objects[o] = false
		}
	}
	for o := range now.wanted {
		if !before.wanted.has(o) {
			r.change.Objects[o] = true
		}
	}
}

// keepUp makes was what now is, and tells each difference; nil tells that a key is gone.
func keepUp[K comparable, V any](was, now map[K]V, same func(a, b V) bool, tell func(K, *V)) {
	for k := range was {
		if _, ok := now[k]; !ok {
			delete(was, k)
			tell(k, nil)
		}
	}
	for k, v := range now {
		if before, ok := was[k]; !ok || !same(before, v) {
			was[k] = v
			told := v // v itself would be allocated for what is the same, too
			tell(k, &told)
		}
	}
}

// sameStates is same for what is mostly what it was the last time.
func sameStates(a, b []ListenerState) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || same(a, b))
}

func same[V any](a, b V) bool { return reflect.DeepEqual(a, b) }
