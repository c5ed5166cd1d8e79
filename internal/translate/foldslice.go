// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// foldSlice takes in another state of a slice. Pods that stay in it cost no more than a look: a slice holds up to 1000.
func (x *index) foldSlice(k world.Key, was, now *world.EndpointSlice, t *touched) {
	t.slices.add(k)
	x.foldAPIServer(k, was, now, t)
	if was != nil && now != nil && (was.Service != now.Service || !slices.Equal(was.Ports, now.Ports)) {
		x.linkSlice(k, was.Service, was, nil, t)
		was = nil
	}
	if was != nil {
		x.linkSlice(k, was.Service, was, now, t)
	} else {
		x.linkSlice(k, now.Service, nil, now, t)
	}
}

// entries counts how often a slice names a pod.
type entries struct{ was, now int }

// linkSlice links a slice of a service as it is now, where it was linked as it was; nil: not there. Service and ports are the same
// in both.
func (x *index) linkSlice(k world.Key, name string, was, now *world.EndpointSlice, t *touched) {
	service := k.In(k.Namespace, name)
	named := map[string]entries{}
	if was != nil {
		x.slicesOf.remove(service, k)
		for _, ep := range was.Endpoints {
			if ep.Pod == "" {
				x.slicesOn.remove(k.In("", ep.Node), k)
			} else {
				e := named[ep.Pod]
				e.was++
				named[ep.Pod] = e
			}
		}
	}
	if now != nil {
		x.slicesOf.add(service, k)
		for _, ep := range now.Endpoints {
			if ep.Pod == "" {
				x.slicesOn.add(k.In("", ep.Node), k)
			} else {
				e := named[ep.Pod]
				e.now++
				named[ep.Pod] = e
			}
		}
	}
	m := x.members[service]
	if m == nil {
		m = newMembers()
		x.members[service] = m
	}
	m.size += sizeOf(now) - sizeOf(was)
	places := false
	for name, e := range named {
		if e.was == e.now {
			continue
		}
		pod := k.In(k.Namespace, name)
		switch {
		case e.was == 0:
			x.slicesNaming.add(pod, k)
			t.pods.add(pod)
		case e.now == 0:
			x.slicesNaming.remove(pod, k)
			t.pods.add(pod)
		}
		there, counts := x.memberOf(x.state.Pods[pod])
		if m.set(name, there, counts, e.now-e.was) {
			places = true
		}
	}
	if m.size == 0 {
		delete(x.members, service)
	}
	if places {
		t.membersOf(service)
	} else {
		t.countOf(x, service)
	}
	t.standingOf(x, service)
}
