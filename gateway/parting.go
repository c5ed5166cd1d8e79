// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// defaultParting is how long what left a waypoint is served to those who have not heard of it: a change reaches every node proxy within a second
// (discovery-propagate), and one that was cut off from its controller is connected again, or has another one, within half a minute.
const defaultParting = time.Minute

// parted is a service that was behind a waypoint, with all that was in force for it then. It is served on, by that, to those who have not heard yet, and
// then to those whose streams run, for as long as a drain may take: no later change of its policies reaches us.
type parted struct {
	since    time.Time
	consumed bool // it was behind the waypoint for callers of the waypoint's own namespace only
	narrowed bool // it has not left for these, but for all others
	routes   []mesh.ServiceRoutes
	policies []mesh.ServicePolicies // its own, and of what its routes lead to
	tls      []mesh.BackendTLS      // of the same
}

// partings are what left, by name.
type partings map[mesh.ServiceKey]parted

// note compares two configurations as they were told, the later of which counts from now on. before is nil if there was none.
func (p partings) note(before, g *mesh.Gateway, now time.Time) {
	for _, key := range g.Fronts {
		if !p[key].narrowed || !isIn(g.Consumed, key) {
			delete(p, key)
		}
	}
	if before == nil || before.Service != g.Service {
		return
	}
	for _, key := range before.Fronts {
		switch {
		case !isIn(g.Fronts, key):
			of := leave(before, key, now)
			if was := p[key]; was.narrowed { // others have not heard of that either, yet
				of.consumed, of.routes = false, append(of.routes, was.routes...)
				of.tls = append(of.tls, was.tls...)
			}
			p[key] = of
		case isIn(g.Consumed, key) && !isIn(before.Consumed, key):
			of := leave(before, key, now)
			of.narrowed = true
			of.routes = slices.DeleteFunc(of.routes, func(r mesh.ServiceRoutes) bool { return r.Consumer == g.Namespace })
			p[key] = of
		}
	}
}

// isIn says whether a sorted list has a service.
func isIn(sorted []mesh.ServiceKey, key mesh.ServiceKey) bool {
	_, there := slices.BinarySearchFunc(sorted, key, mesh.CompareServiceKeys)
	return there
}

// leave collects what is in force for a service.
func leave(g *mesh.Gateway, key mesh.ServiceKey, now time.Time) parted {
	out := parted{since: now}
	out.consumed = isIn(g.Consumed, key)
	for _, of := range g.ServiceRoutes {
		if of.Service == key {
			out.routes = append(out.routes, of)
		}
	}
	reached := mesh.ReachedBy(out.routes)
	reached[key] = struct{}{}
	for _, of := range g.ServicePolicies {
		if _, ok := reached[of.Service]; ok {
			out.policies = append(out.policies, of)
		}
	}
	for _, of := range g.BackendTLS {
		if _, ok := reached[of.Service]; ok {
			out.tls = append(out.tls, of)
		}
	}
	return out
}

// forget drops what left longer ago than that.
func (p partings) forget(now time.Time, after time.Duration) (some bool) {
	for key, of := range p {
		if now.Sub(of.since) >= after {
			delete(p, key)
			some = true
		}
	}
	return some
}

// late are those that are served to streams that run, and to no new ones: to none at all, or to none of others than the waypoint's own namespace.
func (p partings) late(now time.Time, after time.Duration) (late, toOthers map[mesh.ServiceKey]struct{}) {
	late, toOthers = map[mesh.ServiceKey]struct{}{}, map[mesh.ServiceKey]struct{}{}
	for key, of := range p {
		switch {
		case now.Sub(of.since) < after:
		case of.narrowed:
			toOthers[key] = struct{}{}
		default:
			late[key] = struct{}{}
		}
	}
	return late, toOthers
}

// next is when one of them has been gone for one of these times; false if there is none.
func (p partings) next(now time.Time, after ...time.Duration) (time.Duration, bool) {
	soonest, found := time.Duration(0), false
	for _, of := range p {
		for _, d := range after {
			if in := of.since.Add(d).Sub(now); in > 0 && (!found || in < soonest) {
				soonest, found = in, true
			}
		}
	}
	return soonest, found
}

// with is a configuration together with what left. What the configuration itself says of a service counts alone.
func (p partings) with(g *mesh.Gateway) *mesh.Gateway {
	if len(p) == 0 {
		return g
	}
	told := mesh.ReachedBy(g.ServiceRoutes)
	for _, key := range g.Fronts {
		told[key] = struct{}{}
	}
	out := *g
	out.Fronts, out.Consumed, out.ServiceRoutes = slices.Clone(g.Fronts), slices.Clone(g.Consumed), slices.Clone(g.ServiceRoutes)
	out.ServicePolicies, out.BackendTLS = slices.Clone(g.ServicePolicies), slices.Clone(g.BackendTLS)
	// Of two that led to the same service, who left last knew its policies last.
	keys := slices.SortedFunc(maps.Keys(p), func(a, b mesh.ServiceKey) int {
		return cmp.Or(p[b].since.Compare(p[a].since), mesh.CompareServiceKeys(a, b))
	})
	for _, key := range keys {
		of := p[key]
		switch {
		case of.narrowed:
			out.Consumed = slices.DeleteFunc(out.Consumed, func(k mesh.ServiceKey) bool { return k == key })
		case of.consumed:
			out.Consumed = append(out.Consumed, key)
			fallthrough
		default:
			out.Fronts = append(out.Fronts, key)
		}
		out.ServiceRoutes = append(out.ServiceRoutes, of.routes...)
		for _, policies := range of.policies {
			if _, ok := told[policies.Service]; !ok {
				out.ServicePolicies = append(out.ServicePolicies, policies)
			}
		}
		for _, settings := range of.tls {
			if _, ok := told[settings.Service]; !ok {
				out.BackendTLS = append(out.BackendTLS, settings)
			}
		}
		maps.Copy(told, mesh.ReachedBy(of.routes))
		told[key] = struct{}{}
	}
	slices.SortFunc(out.Fronts, mesh.CompareServiceKeys)
	slices.SortFunc(out.Consumed, mesh.CompareServiceKeys)
	slices.SortFunc(out.ServiceRoutes, mesh.CompareServiceRoutes)
	slices.SortFunc(out.ServicePolicies, func(a, b mesh.ServicePolicies) int { return mesh.CompareServiceKeys(a.Service, b.Service) })
	slices.SortFunc(out.BackendTLS, mesh.CompareBackendTLS)
	return &out
}
