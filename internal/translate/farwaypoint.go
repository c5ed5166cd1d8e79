// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// farWaypoint is who ends tunnels for a service that its cluster puts behind a waypoint: the one of its labels there, else the automatic one of its namespace. Whether it is in use is
// that cluster's affair, so it counts as soon as it is there. It is false if there is none, if it is for workloads only, if it does not let in the service's namespace, or if the cluster's
// limits do not allow its identity.
func (x *index) farWaypoint(s *world.Service) (mesh.Identity, bool) {
	var w wish
	if s.Cluster == x.config.LocalCluster { // one of several networks
		w, _ = x.serviceWish(s)
	} else if w, _ = x.wishFor(s.Labels, s.Cluster, s.Namespace); !w.set {
		w.gateway = s.In(s.Namespace, AutomaticWaypoint) // which routes there are is not known here
	}
	g := x.state.Gateways[w.gateway]
	if g == nil || g.Deleting {
		return mesh.Identity{}, false
	}
	if l := x.waypointListener(g, nil); l == nil || !x.admits(g.Key, *l, s.Namespace) {
		return mesh.Identity{}, false
	}
	if serves := cmp.Or(g.WaypointFor, forServices); serves != forServices && serves != forAll {
		return mesh.Identity{}, false
	}
	account := cmp.Or(g.ServiceAccount, ResourceName(g.Name))
	if l := x.limits[s.Cluster]; !namespaceAllowed(l, g.Namespace) || !identityAllowed(l, g.Namespace, account) {
		return mesh.Identity{}, false
	}
	return mesh.Identity{TrustDomain: x.trustDomain(s.Cluster), Namespace: g.Namespace, ServiceAccount: account}, true
}

// farWaypointOf notes the services that another cluster may put behind a Gateway of its own.
func (t *touched) farWaypointOf(x *index, gateway world.Key) {
	for n := range x.waypointServices[gateway] {
		t.names.add(n)
	}
	for namespace := range x.waypointNamespaces[gateway] {
		t.namesOf(x, namespace)
	}
	if gateway.Name == AutomaticWaypoint {
		t.namesOf(x, world.Key{Cluster: gateway.Cluster, Name: gateway.Namespace})
	}
}

// namesOf notes the services of a namespace that a cluster has.
func (t *touched) namesOf(x *index, namespace world.Key) {
	for n := range x.namesIn[namespace.Name] {
		if x.clustersOf[n].has(namespace.Cluster) {
			t.names.add(n)
		}
	}
}
