// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// touched are the keys whose answers a delta may change.
type touched struct {
	names    set[serviceName]
	counts   set[world.Key] // services of other clusters with more or fewer pods or healthy ones, and nothing else
	pods     set[world.Key]
	slices   set[world.Key]
	scopes   set[world.Key]
	policies set[world.Key] // AuthorizationPolicies and PeerAuthentications
	clusters set[world.Cluster]
	doors    set[world.Cluster] // those whose Gateways are looked at again for ways in; of all it is settled again which of those are used
	gateways bool               // all Gateways of our own are looked at again, and those judged anew that what changed is about: see judged
	peers    bool               // so are PeerAuthentications
	guards   bool               // what gateways are told of policies
	routes   bool               // what attaches to our own Gateways, or may be referred to: they are looked at again, but not those of others
}

func newTouched() *touched {
	return &touched{
		names: set[serviceName]{}, counts: set[world.Key]{}, pods: set[world.Key]{}, slices: set[world.Key]{}, scopes: set[world.Key]{},
		policies: set[world.Key]{}, clusters: set[world.Cluster]{}, doors: set[world.Cluster]{},
	}
}

// networkOf notes that a cluster's networks or limits may be others now, which concerns everything of it. If the cluster is our
// own, it concerns what is remote in every other one.
func (t *touched) networkOf(x *index, c world.Cluster) {
	t.gateways = true
	all := c == x.config.LocalCluster
	if t.doors.add(c); all {
		t.allDoors(x)
	}
	for other := range x.namesOf {
		if all || other == c {
			t.clusters.add(other)
			for n := range x.namesOf[other] {
				t.names.add(n)
			}
		}
	}
	t.clusters.add(c)
	for other := range x.networks {
		if all || other == c {
			x.judgeNetworks(other)
			t.clusters.add(other)
		}
	}
	for namespace, pods := range x.podsIn {
		if all || namespace.Cluster == c {
			for name := range pods {
				k := namespace.In(namespace.Name, name)
				t.pods.add(k)
				x.foldClaim(k, x.state.Pods[k], t)
			}
		}
	}
	if !all {
		return // endpoints that are no pods count in our own cluster only
	}
	for slice := range x.state.EndpointSlices {
		if slice.Cluster == c {
			t.slices.add(slice)
		}
	}
}

// membersOf notes that there are other service accounts or networks behind a service now.
func (t *touched) membersOf(service world.Key) { t.names.add(nameOf(service)) }

// countOf notes that there are more or fewer pods behind a service, or healthy ones, of the same service accounts and networks as before. Our own cluster's pods are told one by
// one, so only other clusters' add to what is said of the service, unless some of ours are on another network than others.
func (t *touched) countOf(x *index, service world.Key) {
	if service.Cluster != x.config.LocalCluster || x.several() {
		t.counts.add(service)
	}
}

// endpointsOf notes all endpoints of a service.
func (t *touched) endpointsOf(x *index, service world.Key) {
	for slice := range x.slicesOf.of(service) {
		t.slices.add(slice)
		for _, ep := range x.state.EndpointSlices[slice].Endpoints {
			if ep.Pod != "" {
				t.pods.add(slice.In(slice.Namespace, ep.Pod))
			}
		}
	}
}
