// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// A cluster has one network by default, and may have pods on others: a pod's label says so, or else its namespace's. Our own cluster is
// believed. Another one's pods are where their cluster is, or on a network that our operator lets the cluster be on; any other claim could
// have them take over addresses or traffic of a network that is not theirs, so such a pod is not used at all.

// networkClaims counts the pods of a cluster by the network that their labels name.
type networkClaims struct {
	pods    map[string]int
	refused int      // pods that claim a network which they may not be on
	names   []string // these networks, sorted
}

// network is the one that a cluster's pods are on by default; false if a remote cluster does not say, or nobody there could prove anything,
// in which cases nothing of it can be used.
func (x *index) network(c world.Cluster) (string, bool) {
	if x.unprovable.has(c) {
		return "", false
	}
	if l := x.limits[c]; l != nil && l.Network != "" && c != x.config.LocalCluster {
		return l.Network, true
	}
	n := x.networkLabel(c)
	return n, n != "" || c == x.config.LocalCluster
}

// networkLabel is what a cluster itself calls its network.
func (x *index) networkLabel(c world.Cluster) string {
	return x.ownNetworks[c]
}

// networkClaim is the network that a pod's labels name, or else its namespace's; "" if they say nothing. The system namespace's speaks for
// the whole cluster.
func (x *index) networkClaim(p *world.Pod) string {
	if p == nil {
		return ""
	}
	if n := p.Labels[world.LabelNetwork]; n != "" || p.Namespace == x.config.SystemNamespace {
		return n
	}
	return x.namedNetworks[world.Key{Cluster: p.Cluster, Name: p.Namespace}]
}

// networkFor is where a pod or Gateway of a cluster is that claims to be on a network; false if it may not be there. One of our own cluster that claims a network which the
// cluster has not claims nothing.
func (x *index) networkFor(c world.Cluster, claim string) (string, bool) {
	own, known := x.network(c)
	switch {
	case claim == "" || claim == own || c == x.config.LocalCluster && !x.isFurther(claim):
		return own, known
	case c == x.config.LocalCluster:
		return claim, true
	case claim == x.networkLabel(c): // which spec.network may call otherwise
		return own, known
	}
	if l := x.limits[c]; known && l != nil && slices.Contains(l.Networks, claim) {
		return claim, true
	}
	return "", false
}

// networkOfPod is where a pod is.
func (x *index) networkOfPod(p *world.Pod) (string, bool) {
	return x.networkFor(p.Cluster, x.networkClaim(p))
}

// near says whether a network is one of our own cluster's.
func (x *index) near(network string) bool {
	own, _ := x.network(x.config.LocalCluster)
	return network == own || x.isFurther(network)
}

// networksHere are our own cluster's networks, sorted.
func (x *index) networksHere() []string {
	own, _ := x.network(x.config.LocalCluster)
	out := []string{own}
	for n := range x.further {
		if x.isFurther(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// several says whether there are more of these than one.
func (x *index) several() bool {
	own, _ := x.network(x.config.LocalCluster)
	return own != "" && (len(x.further) > 1 || len(x.further) == 1 && !x.further.has(own))
}

// across says whether a network is another one for some of our own cluster's pods.
func (x *index) across(network string) bool { return !x.near(network) || x.several() }

// claimants counts the pods of a cluster whose labels name a network.
func (x *index) claimants(c world.Cluster, network string) int {
	if claims := x.networks[c]; claims != nil {
		return claims.pods[network]
	}
	return 0
}

// mayHavePodsOn says whether a cluster may have pods on a network.
func (x *index) mayHavePodsOn(c world.Cluster, network string) bool {
	own, _ := x.network(c)
	return network == own || x.claimants(c, network) > 0
}

// meets says whether a cluster may have pods on a network of our own one.
func (x *index) meets(c world.Cluster) bool {
	own, _ := x.network(c)
	return x.meetsFrom(c, own)
}

// meetsFrom is meets for a cluster whose own network has a name.
func (x *index) meetsFrom(c world.Cluster, own string) bool {
	return x.near(own) || x.networks[c] != nil && slices.ContainsFunc(x.networksHere(), func(n string) bool { return x.claimants(c, n) > 0 })
}

// fileNetwork counts a pod's claim (by 1) or takes it back (by -1).
func (x *index) fileNetwork(c world.Cluster, claim string, by int, t *touched) {
	if claim == "" {
		return
	}
	claims := x.networks[c]
	if claims == nil {
		claims = &networkClaims{pods: map[string]int{}}
		x.networks[c] = claims
	}
	if claims.pods[claim] += by; claims.pods[claim] == 0 {
		delete(claims.pods, claim)
	}
	_, has := claims.pods[claim]
	if c != x.config.LocalCluster {
		if x.refuses(c, claim) {
			claims.refused += by
			if at, ok := slices.BinarySearch(claims.names, claim); has && !ok {
				claims.names = slices.Insert(claims.names, at, claim)
			} else if !has && ok {
				claims.names = slices.Delete(claims.names, at, at+1)
			}
		}
		t.clusters.add(c)
	}
	if len(claims.pods) == 0 {
		delete(x.networks, c)
	}
}

// refuses says whether a cluster's pods may not be on a network that they claim. Of a cluster that is not used at all nothing is refused.
func (x *index) refuses(c world.Cluster, claim string) bool {
	_, known := x.network(c)
	_, ok := x.networkFor(c, claim)
	return known && !ok
}

// judgeNetworks finds out anew which claims of a cluster are refused.
func (x *index) judgeNetworks(c world.Cluster) {
	claims := x.networks[c]
	if claims == nil || c == x.config.LocalCluster {
		return
	}
	claims.refused, claims.names = 0, nil
	for n, pods := range claims.pods {
		if x.refuses(c, n) {
			claims.refused += pods
			claims.names = append(claims.names, n)
		}
	}
	slices.Sort(claims.names)
}

// foldNetworkLabel notes what network a namespace's label names.
func (x *index) foldNetworkLabel(k world.Key, now string) {
	switch {
	case k.Name == x.config.SystemNamespace && now != "":
		x.ownNetworks[k.Cluster] = now
	case k.Name == x.config.SystemNamespace:
		delete(x.ownNetworks, k.Cluster)
	case now != "":
		x.namedNetworks[k] = now
	default:
		delete(x.namedNetworks, k)
	}
}

// foldNamespaceNetwork takes in another network of a namespace, which its pods are on that do not name one themselves.
func (x *index) foldNamespaceNetwork(k world.Key, before, after string, t *touched) {
	if before == after {
		return
	}
	switch {
	case k.Name == x.config.SystemNamespace && k.Cluster == x.config.LocalCluster:
		t.networkOf(x, k.Cluster)
		return
	case k.Name == x.config.SystemNamespace:
		t.farNetworkOf(x, k.Cluster, before, after)
		return
	}
	x.foldNamedNetwork(k, before, after)
	for name := range x.podsIn[k] {
		pod := k.In(k.Name, name)
		p := x.state.Pods[pod]
		if p.Labels[world.LabelNetwork] != "" {
			continue
		}
		x.fileNetwork(k.Cluster, before, -1, t)
		x.fileNetwork(k.Cluster, after, 1, t)
		t.pods.add(pod)
		x.foldClaim(pod, p, t)
		now, counts := x.memberOf(p)
		for s := range x.slicesNaming.of(pod) {
			x.setMember(k.In(k.Name, x.state.EndpointSlices[s].Service), name, now, counts, t)
		}
	}
}
