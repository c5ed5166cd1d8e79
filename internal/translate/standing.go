// SPDX-License-Identifier: Apache-2.0

package translate

import "github.com/isthmus-mesh/isthmus/internal/world"

// standing says whether a Gateway has a pod that takes connections. A gateway without one keeps its address, and whoever
// still tried it would only lose time. As long as nobody said who answers for its Service (there is no EndpointSlice yet),
// it is taken to stand.
func (x *index) standing(gateway world.Key) bool {
	for slice := range x.slicesOf.of(gateway) {
		for _, ep := range x.state.EndpointSlices[slice].Endpoints {
			if ep.Pod == "" {
				if ep.Ready {
					return true
				}
			} else if p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]; p != nil && healthy(p) {
				return true
			}
		}
	}
	return !x.slicesOf.has(gateway)
}

// standingOf notes that the pods behind a Service are others now: if it is a Gateway's, the Gateway may stand or fall by it.
func (t *touched) standingOf(x *index, service world.Key) {
	if x.state.Gateways[service] != nil {
		t.gateways = true
	}
}
