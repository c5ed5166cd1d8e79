// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Live holds the current View. The zero Live is not usable; see NewLive.
type Live struct{ current atomic.Pointer[View] }

// NewLive holds an empty view.
func NewLive() *Live {
	l := &Live{}
	l.current.Store(&View{superseded: make(chan struct{})})
	return l
}

// Load gives the current view.
func (l *Live) Load() *View { return l.current.Load() }

// Changed is closed at the next change. To wait for something to become true, take a view, look, and wait for that view's
// Superseded instead, which cannot miss a change in between.
func (l *Live) Changed() <-chan struct{} { return l.Load().superseded }

// Apply publishes a view with the delta applied, and gives it back. There must be one caller at a time.
func (l *Live) Apply(d mesh.Delta) *View {
	before := l.current.Load()
	if len(d.Workloads)+len(d.Services)+len(d.Policies)+len(d.Gateways) == 0 { // bundles are not looked up here
		return before
	}
	after := before.with(d)
	l.current.Store(after)
	close(before.superseded)
	return after
}

// with builds the next generation: every value that goes is taken out of all indexes, every value that comes is put in.
func (v *View) with(d mesh.Delta) *View {
	next := &View{superseded: make(chan struct{}), policyTurn: v.policyTurn}
	v.withWorkloads(next, d.Workloads)
	v.withServices(next, d.Services)
	v.withPolicies(next, d.Policies)

	gateways := v.gateways.edit()
	for key, g := range d.Gateways {
		if g == nil {
			gateways.remove(key)
		} else {
			was, _ := gateways.get(key)
			gateways.put(key, g.Keeping(was))
		}
	}
	next.gateways = gateways.done()
	return next
}

func (v *View) withWorkloads(next *View, changes map[string]*mesh.Workload) {
	workloads, byAddress, byHostname, byPod, endpoints :=
		v.workloads.edit(), v.byAddress.edit(), v.byHostname.edit(), v.byPod.edit(), v.endpoints.edit()
	// Lists are rebuilt once per delta, however many members of one list change: a first load of a service with many endpoints
	// would be quadratic otherwise.
	addresses, hostnames := make(group[mesh.NetworkAddress, *mesh.Workload], len(changes)), group[mesh.ServiceKey, *mesh.Workload]{}
	pods, services := make(group[PodKey, *mesh.Workload], len(changes)), group[mesh.ServiceKey, *mesh.Workload]{}
	if v.workloads.shards == nil {
		workloads.expect, byAddress.expect, byPod.expect = len(changes), len(changes), len(changes)
	}
	for uid, w := range changes {
		if old, ok := workloads.get(uid); ok {
			for _, addr := range old.Addresses {
				addresses.remove(mesh.NetworkAddress{Network: old.Network, Addr: addr.Unmap()}, old)
			}
			if old.Hostname != "" {
				hostnames.remove(mesh.ServiceKey{Namespace: old.Namespace, Hostname: old.Hostname}, old)
			}
			pods.remove(PodKey{old.Cluster, old.Namespace, old.Name}, old)
			for key := range old.Services {
				services.remove(key, old)
			}
		}
		if w == nil {
			workloads.remove(uid)
			continue
		}
		workloads.put(uid, w)
		for _, addr := range w.Addresses {
			addresses.add(mesh.NetworkAddress{Network: w.Network, Addr: addr.Unmap()}, w)
		}
		if w.Hostname != "" {
			hostnames.add(mesh.ServiceKey{Namespace: w.Namespace, Hostname: w.Hostname}, w)
		}
		pods.add(PodKey{w.Cluster, w.Namespace, w.Name}, w)
		for key := range w.Services {
			services.add(key, w)
		}
	}
	addresses.apply(byAddress, byUID)
	hostnames.apply(byHostname, byUID)
	pods.apply(byPod, byUID)
	services.apply(endpoints, byUID)
	next.workloads, next.byAddress, next.byHostname = workloads.done(), byAddress.done(), byHostname.done()
	next.byPod, next.endpoints = byPod.done(), endpoints.done()
}

func (v *View) withServices(next *View, changes map[mesh.ServiceKey]*mesh.Service) {
	services, byVIP, over, named := v.services.edit(), v.servicesByVIP.edit(), v.servicesOver.edit(), v.servicesNamed.edit()
	vips, ranges, hostnames := group[mesh.NetworkAddress, *mesh.Service]{}, group[mesh.NetworkRange, *mesh.Service]{}, group[string, *mesh.Service]{}
	for key, s := range changes {
		if old, ok := services.get(key); ok {
			for _, vip := range old.Addresses {
				vips.remove(unmapped(vip), old)
			}
			for _, r := range old.Ranges {
				ranges.remove(r, old)
			}
			hostnames.remove(strings.ToLower(old.Hostname), old)
		}
		if s == nil {
			services.remove(key)
			continue
		}
		services.put(key, s)
		for _, vip := range s.Addresses {
			vips.add(unmapped(vip), s)
		}
		for _, r := range s.Ranges {
			ranges.add(r, s)
		}
		hostnames.add(strings.ToLower(s.Hostname), s)
	}
	vips.apply(byVIP, byServiceKey)
	ranges.apply(over, byServiceKey)
	hostnames.apply(named, byServiceKey)
	next.services, next.servicesByVIP, next.servicesOver, next.servicesNamed = services.done(), byVIP.done(), over.done(), named.done()
}

func (v *View) withPolicies(next *View, changes map[string]*mesh.Policy) {
	policies, scoped := v.policies.edit(), v.scoped.edit()
	lists := group[string, *mesh.Policy]{}
	for key, p := range changes {
		next.policyTurn = v.policyTurn + 1
		if old, ok := policies.get(key); ok && old.Scope != mesh.PolicyWorkloads {
			lists.remove(scopeOf(old), old)
		}
		if p == nil {
			policies.remove(key)
			continue
		}
		policies.put(key, p)
		if p.Scope != mesh.PolicyWorkloads {
			lists.add(scopeOf(p), p)
		}
	}
	lists.apply(scoped, func(a, b *mesh.Policy) int { return strings.Compare(a.Key(), b.Key()) })
	next.policies, next.scoped = policies.done(), scoped.done()
}

func scopeOf(p *mesh.Policy) string {
	if p.Scope == mesh.PolicyGlobal {
		return ""
	}
	return p.Namespace
}

func unmapped(a mesh.NetworkAddress) mesh.NetworkAddress {
	a.Addr = a.Addr.Unmap()
	return a
}

func byUID(a, b *mesh.Workload) int { return strings.Compare(a.UID, b.UID) }

func byServiceKey(a, b *mesh.Service) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Hostname, b.Hostname))
}

// group collects what comes and goes per key of an index of lists.
type group[K, V comparable] map[K]change[V]

type change[V comparable] struct {
	gone map[V]struct{} // nil: nothing, as for all that a first load tells of
	come []V
}

func (g group[K, V]) add(k K, v V) {
	c := g[k]
	c.come = append(c.come, v)
	g[k] = c
}

func (g group[K, V]) remove(k K, v V) {
	c := g[k]
	if c.gone == nil {
		c.gone = map[V]struct{}{}
		g[k] = c
	}
	c.gone[v] = struct{}{}
}

func (g group[K, V]) apply(into *editor[K, []V], order func(a, b V) int) {
	for k, c := range g {
		after := c.come
		if before, _ := into.get(k); len(before) > 0 {
			after = make([]V, 0, len(before)+len(c.come))
			for _, v := range before {
				if _, gone := c.gone[v]; !gone {
					after = append(after, v)
				}
			}
			after = append(after, c.come...)
		}
		if len(after) == 0 {
			into.remove(k)
			continue
		}
		slices.SortFunc(after, order)
		into.put(k, slices.Clip(slices.Compact(after)))
	}
}
