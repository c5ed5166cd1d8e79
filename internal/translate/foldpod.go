// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

func (x *index) foldNode(k world.Key, t *touched) {
	if k.Cluster == x.config.LocalCluster { // its address may be a gateway's
		t.gatesOf(x, k.Cluster)
	}
	for on := range x.podsOn[k] {
		p := on.in(k.Cluster)
		t.pods.add(p)
		for s := range x.slicesNaming.of(p) {
			t.standingOf(x, p.In(p.Namespace, x.state.EndpointSlices[s].Service)) // a gateway is where its pods are
		}
	}
	for s := range x.slicesOn[k] {
		t.slices.add(s)
	}
}

func (x *index) foldPod(k world.Key, was, now *world.Pod, t *touched) {
	t.pods.add(k)
	x.placePod(k, was, now)
	x.foldNodeProxy(k, was, now, t)
	if before, after := x.networkClaim(was), x.networkClaim(now); before != after {
		x.fileNetwork(k.Cluster, before, -1, t)
		x.fileNetwork(k.Cluster, after, 1, t)
	}
	x.foldClaim(k, now, t)
	if k.Cluster == x.config.LocalCluster {
		var before, after wish
		if was != nil {
			before = wishOf(was.Labels, k.Cluster, k.Namespace)
		}
		if now != nil {
			after = wishOf(now.Labels, k.Cluster, k.Namespace)
		}
		foldWish(x.waypointPods, k, before, after)
		x.foldGatewayPod(k, was, now)
	}
	if !x.slicesNaming.has(k) {
		return
	}
	before, countedBefore := x.memberOf(was)
	after, counts := x.memberOf(now)
	counting := before != after || countedBefore != counts
	for s := range x.slicesNaming.of(k) {
		service := k.In(k.Namespace, x.state.EndpointSlices[s].Service)
		t.standingOf(x, service)
		if counting {
			x.setMember(service, k.Name, after, counts, t)
		}
	}
}

// foldNodeProxy notes a proxy that comes, goes or says something else. What it means for the node is what it means for each pod there.
func (x *index) foldNodeProxy(k world.Key, was, now *world.Pod, t *touched) {
	if k.Namespace != x.config.SystemNamespace || !isNodeProxy(was) && !isNodeProxy(now) {
		return
	}
	if was != nil && now != nil && was.NodeProxy == now.NodeProxy && was.Node == now.Node {
		return
	}
	for _, p := range []*world.Pod{was, now} {
		if !isNodeProxy(p) {
			continue
		}
		node := k.In("", p.Node)
		if p == was {
			x.proxiesOn.remove(node, k)
		} else {
			x.proxiesOn.add(node, k)
		}
		for on := range x.podsOn[node] {
			t.pods.add(on.in(k.Cluster))
		}
	}
}

// setMember says what a pod now adds to a service that it is behind.
func (x *index) setMember(service world.Key, pod string, now member, counts bool, t *touched) {
	if places := x.members[service].set(pod, now, counts, 0); places {
		t.membersOf(service)
	} else {
		t.countOf(x, service)
	}
}

// placePod notes where a pod is now. Most changes leave it where it was.
func (x *index) placePod(k world.Key, was, now *world.Pod) {
	if was != nil && now != nil && was.Node == now.Node && slices.Equal(was.Addresses, now.Addresses) {
		return
	}
	name, far := podName{k.Namespace, k.Name}, k.Cluster != x.config.LocalCluster
	if was != nil {
		x.podsOn.remove(k.In("", was.Node), name)
		x.podsIn.remove(k.In("", k.Namespace), k.Name)
		if far {
			for _, a := range was.Addresses {
				x.farPodsAt.remove(a, k)
			}
		}
	}
	if now != nil {
		if far {
			for _, a := range now.Addresses {
				x.farPodsAt.add(a, k)
			}
		}
		x.podsOn.add(k.In("", now.Node), name)
		x.podsIn.add(k.In("", k.Namespace), k.Name)
	}
}
