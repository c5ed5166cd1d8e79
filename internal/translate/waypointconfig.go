// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// toldWaypoint completes what one of our waypoints is told: what it stands in front of, and by what it judges. A route there may lead to other
// services, whose policies it judges by as well: whoever may call one service must not reach another one by way of it.
func (x *index) toldWaypoint(out *mesh.Gateway, g *world.Gateway) {
	front := x.front(g)
	out.Service = x.serviceKey(nameOf(front))
	out.Consumed = x.serviceKeys(x.consumedBy(g.Key))
	slices.SortFunc(out.Consumed, mesh.CompareServiceKeys)
	out.Fronts = append(x.serviceKeys(x.frontedBy(g.Key)), out.Consumed...)
	slices.SortFunc(out.Fronts, mesh.CompareServiceKeys) // "cart-v2" comes after "cart", and its hostname before
	out.ServiceRoutes = x.serviceRoutes(g.Key)
	judged := maps.Clone(x.behind[g.Key])
	if judged == nil {
		judged = set[serviceName]{}
	}
	for n := range x.consumed[g.Key] {
		judged.add(n)
	}
	for to := range mesh.ReachedBy(out.ServiceRoutes) {
		if n, ok := x.nameOfHost(world.Key{Namespace: to.Namespace, Name: to.Hostname}); ok {
			judged.add(n)
		}
	}
	// Its own are looked up: there may be a waypoint in every namespace, so none may cost what all namespaces' policies do.
	out.ServicePolicies = x.servicePolicies(maps.Keys(judged), func(serviceName, *world.Service) bool { return true })
}
