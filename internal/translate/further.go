// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Our own cluster's networks are what its operators say: that of the system namespace, those of other namespaces' labels, and those of Gateways in the system namespace, as
// long as pods are there. A pod's own label names one of them, and adds none: whoever may write a pod would otherwise change where all services are told to be, and whose pods are told one by one.

// isFurther says whether our own cluster has a network besides that of its system namespace.
func (x *index) isFurther(network string) bool {
	own, _ := x.network(x.config.LocalCluster)
	return own != "" && network != own && x.further.has(network)
}

// foldNamedNetwork takes in another network that a namespace of our own cluster names.
func (x *index) foldNamedNetwork(k world.Key, before, after string) {
	if k.Cluster != x.config.LocalCluster || k.Name == x.config.SystemNamespace {
		return
	}
	if before != "" {
		x.namedBy.remove(before, k)
	}
	if after != "" {
		x.namedBy.add(after, k)
	}
}

// foldGateNetwork does so for a Gateway of the system namespace.
func (x *index) foldGateNetwork(k world.Key, was, now *world.Gateway) {
	if k.Cluster != x.config.LocalCluster || k.Namespace != x.config.SystemNamespace {
		return
	}
	if was != nil {
		x.gatesOn.remove(was.Network, k)
	}
	if now != nil && now.Network != "" {
		x.gatesOn.add(now.Network, k)
	}
}

// settleFurther finds our own cluster's networks after a delta was folded. Where they are others, it notes what that concerns.
func (x *index) settleFurther(t *touched) {
	now := make(set[string], len(x.namedBy))
	for network := range x.namedBy {
		now.add(network)
	}
	for network, gates := range x.gatesOn {
		if x.claimants(x.config.LocalCluster, network) > 0 && x.leadOut(gates) {
			now.add(network)
		}
	}
	if maps.Equal(now, x.further) {
		return
	}
	before, several := x.further, x.several()
	x.further = now
	own, _ := x.network(x.config.LocalCluster)
	if own == "" {
		return // it has one network whatever labels say
	}
	changed, all := set[string]{}, set[string]{own: {}}
	for _, pair := range [][2]set[string]{{before, now}, {now, before}} {
		for network := range pair[0] {
			if all.add(network); !pair[1].has(network) && network != own {
				changed.add(network)
			}
		}
	}
	if len(changed) == 0 {
		return
	}
	if several == x.several() {
		all = changed
	}
	t.furtherOf(x, changed, all)
}

// leadOut says whether one of some Gateways of ours is an east-west gateway.
func (x *index) leadOut(gates set[world.Key]) bool {
	for k := range gates {
		if class := x.state.Gateways[k].Class; x.ourClass(class) && class != ClassWaypoint {
			return true
		}
	}
	return false
}

// strayFinding says of a Service of our own cluster that pods behind it name a network which the cluster has not.
func (x *index) strayFinding(s *world.Service) []Finding {
	own, _ := x.network(x.config.LocalCluster)
	m := x.members[s.Key]
	if own == "" || m == nil {
		return nil
	}
	stray := ""
	for p := range m.places {
		if p.network != "" && p.network != own && !x.further.has(p.network) && (stray == "" || p.network < stray) {
			stray = p.network
		}
	}
	if stray == "" {
		return nil
	}
	return []Finding{{Type: ConditionAccepted, Status: isFalse, Reason: "UnknownNetwork",
		Message: fmt.Sprintf("pods have the label %s with %q, which no namespace and no east-west Gateway in %s names: they count as on %q", world.LabelNetwork, stray, x.config.SystemNamespace, own)}}
}

// furtherOf notes what it concerns that our own cluster has some networks now, or has them no more: where services' addresses are, who is on these networks, and who is reached
// through gateways on any of all.
func (t *touched) furtherOf(x *index, changed, all set[string]) {
	t.gateways = true
	t.allDoors(x)
	for n := range x.namesOf[x.config.LocalCluster] {
		t.names.add(n)
	}
	for k := range x.state.VIPs {
		if n, ok := x.nameOfHost(k); ok {
			t.names.add(n)
		}
	}
	for c, names := range x.namesOf {
		if c != x.config.LocalCluster && x.mayHavePodsOnAny(c, all) {
			for n := range names {
				t.names.add(n)
			}
		}
	}
	claimed := func(c world.Cluster) bool {
		if c != x.config.LocalCluster {
			return x.mayHavePodsOnAny(c, changed)
		}
		for network := range changed {
			if x.claimants(c, network) > 0 {
				return true
			}
		}
		return false
	}
	concerned := map[world.Cluster]bool{}
	for namespace, pods := range x.podsIn {
		c := namespace.Cluster
		if _, known := concerned[c]; !known {
			concerned[c] = claimed(c)
		}
		if !concerned[c] {
			continue
		}
		for name := range pods {
			k := namespace.In(namespace.Name, name)
			p := x.state.Pods[k]
			network := x.networkClaim(p)
			if c != x.config.LocalCluster { // ours may have been on another one by their label
				network, _ = x.networkFor(c, network)
			}
			if changed.has(network) {
				t.pods.add(k)
				x.foldClaim(k, p, t)
			}
		}
	}
}

// mayHavePodsOnAny says whether a cluster may have pods on one of some networks.
func (x *index) mayHavePodsOnAny(c world.Cluster, networks set[string]) bool {
	for network := range networks {
		if x.mayHavePodsOn(c, network) {
			return true
		}
	}
	return false
}

// farNetworkOf notes what it concerns that another cluster calls its own network another name: its services, and its pods where they share a network of ours.
func (t *touched) farNetworkOf(x *index, c world.Cluster, before, after string) {
	if x.unprovable.has(c) {
		return // nothing of it is used
	}
	t.doors.add(c)
	t.clusters.add(c)
	x.judgeNetworks(c)
	l := x.limits[c]
	if l != nil && l.Network != "" {
		if x.claimants(c, before)+x.claimants(c, after) == 0 {
			return // we have a name for it, and nobody there uses theirs
		}
		before, after = l.Network, l.Network
	}
	for n := range x.namesOf[c] {
		t.names.add(n)
	}
	if !x.meetsFrom(c, before) && !x.meetsFrom(c, after) {
		return
	}
	for namespace, pods := range x.podsIn {
		if namespace.Cluster == c {
			for name := range pods {
				k := namespace.In(namespace.Name, name)
				t.pods.add(k)
				x.foldClaim(k, x.state.Pods[k], t)
			}
		}
	}
}
