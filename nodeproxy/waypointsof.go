// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// placed is where an endpoint is, as far as it says whose waypoint may be before it: on our network its cluster, elsewhere its network, which is all that a connection to there can choose.
type placed struct{ network, cluster string }

func (d *decision) placeOf(w *mesh.Workload) placed {
	if w.Network == d.Network {
		return placed{w.Network, w.Cluster}
	}
	return placed{network: w.Network}
}

// mayBeBefore says which of a waypoint's pods may be before a service, or before the pod that is dialled if s is nil: those of the source's own cluster, and those of another cluster or network where
// the service has endpoints, too. A waypoint's own service may be shared by clusters while one that is behind it is not, or is somewhere else: what is sent to such a pod would be refused, or
// would reach what its owner keeps to itself.
func (d *decision) mayBeBefore(s *mesh.Service) func(*mesh.Workload) bool {
	var places map[placed]struct{} // made when it is first asked for, which it seldom is
	return func(w *mesh.Workload) bool {
		if d.isOurs(w) {
			return true
		}
		if places == nil {
			places = d.placesOf(s)
		}
		_, there := places[d.placeOf(w)]
		return there
	}
}

// isOurs says whether an endpoint is of the source's cluster and on our network: it knows a service by the address that was dialled. Another cluster may have that address for another service.
func (d *decision) isOurs(w *mesh.Workload) bool {
	return w.Network == d.Network && w.Cluster == d.Workload.Cluster
}

// placesOf are where a service's endpoints are, or the pod that is dialled if s is nil.
func (d *decision) placesOf(s *mesh.Service) map[placed]struct{} {
	out := map[placed]struct{}{}
	if s == nil {
		if pod := d.View.WorkloadAt(d.Network, d.dst.Addr()); pod != nil {
			out[d.placeOf(pod)] = struct{}{}
		}
		return out
	}
	for _, w := range d.View.Endpoints(s.Key()) {
		out[d.placeOf(w)] = struct{}{}
	}
	return out
}
