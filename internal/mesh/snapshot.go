// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"maps"
	"reflect"
)

// Snapshot is everything that one network's proxies are told. Values are immutable; the maps belong to the holder.
type Snapshot struct {
	Workloads map[string]*Workload // by UID
	Services  map[ServiceKey]*Service
	Policies  map[string]*Policy // by "namespace/name"
	Gateways  map[GatewayKey]*Gateway
	Bundles   map[string]*Bundle // by trust domain
}

// NewSnapshot is an empty snapshot, ready for Apply.
func NewSnapshot() Snapshot {
	return Snapshot{
		Workloads: map[string]*Workload{},
		Services:  map[ServiceKey]*Service{},
		Policies:  map[string]*Policy{},
		Gateways:  map[GatewayKey]*Gateway{},
		Bundles:   map[string]*Bundle{},
	}
}

// Delta is what turns one snapshot into another. A nil value means that the key is gone.
type Delta struct {
	Workloads map[string]*Workload
	Services  map[ServiceKey]*Service
	Policies  map[string]*Policy
	Gateways  map[GatewayKey]*Gateway
	Bundles   map[string]*Bundle // by trust domain
}

// Empty says that nothing changes.
func (d Delta) Empty() bool {
	return len(d.Workloads)+len(d.Services)+len(d.Policies)+len(d.Gateways)+len(d.Bundles) == 0
}

// Len counts the keys that change.
func (d Delta) Len() int {
	return len(d.Workloads) + len(d.Services) + len(d.Policies) + len(d.Gateways) + len(d.Bundles)
}

// Apply changes the snapshot's maps in place; the values are shared with d.
func (s Snapshot) Apply(d Delta) {
	apply(s.Workloads, d.Workloads)
	apply(s.Services, d.Services)
	apply(s.Policies, d.Policies)
	apply(s.Gateways, d.Gateways)
	apply(s.Bundles, d.Bundles)
}

// Clone copies the maps and shares the values.
func (s Snapshot) Clone() Snapshot {
	return Snapshot{
		Workloads: maps.Clone(s.Workloads),
		Services:  maps.Clone(s.Services),
		Policies:  maps.Clone(s.Policies),
		Gateways:  maps.Clone(s.Gateways),
		Bundles:   maps.Clone(s.Bundles),
	}
}

// Diff is the delta for which before.Apply(Diff(before, after)) equals after. It compares values deeply.
func Diff(before, after Snapshot) Delta {
	return Delta{
		Workloads: diff(before.Workloads, after.Workloads),
		Services:  diff(before.Services, after.Services),
		Policies:  diff(before.Policies, after.Policies),
		Gateways:  diff(before.Gateways, after.Gateways),
		Bundles:   diff(before.Bundles, after.Bundles),
	}
}

func apply[K comparable, V any](into map[K]*V, changes map[K]*V) {
	for k, v := range changes {
		if v == nil {
			delete(into, k)
		} else {
			into[k] = v
		}
	}
}

func diff[K comparable, V any](before, after map[K]*V) map[K]*V {
	out := map[K]*V{}
	for k, v := range after {
		if old, ok := before[k]; !ok || old != v && !reflect.DeepEqual(old, v) {
			out[k] = v
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			out[k] = nil
		}
	}
	return out
}
