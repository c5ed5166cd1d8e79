// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// standing says whether a Gateway has a pod that takes connections. A gateway without one keeps its address, and whoever
// still tried it would only lose time. As long as nobody said who answers for its Service (there is no EndpointSlice yet),
// it is taken to stand.
func (x *index) standing(gateway world.Key) bool {
	return x.takesConnections(gateway) || !x.slicesOf.has(x.frontOf(gateway))
}

// takesConnections says whether a Gateway has a pod that is known to take connections.
func (x *index) takesConnections(gateway world.Key) bool {
	gateway = x.frontOf(gateway)
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
	return false
}

// gatewayLocality is where a Gateway's pods are that take connections, as far as they agree: it stands for where the pods behind the gateway
// are, so that of two other networks the nearer one can be preferred.
func (x *index) gatewayLocality(gateway world.Key) mesh.Locality {
	var out mesh.Locality
	first := true
	gateway = x.frontOf(gateway)
	for slice := range x.slicesOf.of(gateway) {
		for _, ep := range x.state.EndpointSlices[slice].Endpoints {
			p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]
			if ep.Pod == "" || p == nil || !healthy(p) {
				continue
			}
			at := x.locality(slice.In("", p.Node))
			switch {
			case first:
				out, first = at, false
			case at.Region != out.Region:
				return mesh.Locality{}
			case at.Zone != out.Zone:
				out.Zone, out.Subzone = "", ""
			case at.Subzone != out.Subzone:
				out.Subzone = ""
			}
		}
	}
	return out
}

// gatewayPods counts a Gateway's pods that take connections; at least 1.
func (x *index) gatewayPods(gateway world.Key) int {
	count := 0
	gateway = x.frontOf(gateway)
	for slice := range x.slicesOf.of(gateway) {
		for _, ep := range x.state.EndpointSlices[slice].Endpoints {
			if p := x.state.Pods[slice.In(slice.Namespace, ep.Pod)]; ep.Pod == "" && ep.Ready || ep.Pod != "" && p != nil && healthy(p) {
				count++
			}
		}
	}
	return max(count, 1)
}

// standingOf notes that the pods behind a Service are others now: if it is a Gateway's, the Gateway may stand or fall by it.
func (t *touched) standingOf(x *index, service world.Key) {
	if len(x.fronts[service]) > 0 {
		t.gateways = true
	}
	if len(x.streams.datagrams[service]) > 0 {
		t.routes = true // gateways are told where its datagrams go
	}
}
