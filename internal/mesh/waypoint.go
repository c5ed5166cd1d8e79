// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"cmp"
	"iter"
	"slices"
)

// ListenerWaypoint ends the tunnels of node proxies and looks at what is inside: requests are routed and judged, other bytes are passed on.
const ListenerWaypoint ListenerProtocol = 5

// ServiceRoutes are the routes that attach to a Service, for some of its callers. A request for that service and port that none of them fits is
// answered with 404; where there are none at all, requests go straight to the service.
type ServiceRoutes struct {
	Service ServiceKey
	Port    uint16 // of the service; 0: every port that has no routes of its own for the same callers
	// Consumer is the namespace whose callers they are for, and only they; empty: every caller whose own namespace has none.
	Consumer string
	// Routes are those that attach, the one that counts first in a tie first.
	Routes []*HTTPRoute
}

// CompareServiceRoutes orders lists of ServiceRoutes: by service, port and consumer.
func CompareServiceRoutes(a, b ServiceRoutes) int {
	return cmp.Or(CompareServiceKeys(a.Service, b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Consumer, b.Consumer))
}

// CompareServiceKeys orders services by namespace and hostname.
func CompareServiceKeys(a, b ServiceKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Hostname, b.Hostname))
}

// RoutesFor gives the routes for what a caller of a namespace sends to a port of a service, and whether there are any: those of the caller's
// namespace before those for everybody, and for either those of the port before those of every port.
func (g *Gateway) RoutesFor(service ServiceKey, port uint16, namespace string) (ServiceRoutes, bool) {
	for _, consumer := range []string{namespace, ""} {
		for _, p := range []uint16{port, 0} {
			want := ServiceRoutes{Service: service, Port: p, Consumer: consumer}
			if i, ok := slices.BinarySearchFunc(g.ServiceRoutes, want, CompareServiceRoutes); ok {
				return g.ServiceRoutes[i], true
			}
		}
	}
	return ServiceRoutes{}, false
}

// ReachedBy are the services that routes lead to, mirrors included.
func ReachedBy(all []ServiceRoutes) map[ServiceKey]struct{} {
	out := map[ServiceKey]struct{}{}
	for _, of := range all {
		for _, route := range of.Routes {
			for service := range route.Reached() {
				out[service] = struct{}{}
			}
		}
	}
	return out
}

// Reached are the services that a route leads to, mirrors included, some more than once. A backend that must not be asked, or is not there, is the zero one.
func (r *HTTPRoute) Reached() iter.Seq[ServiceKey] {
	return func(yield func(ServiceKey) bool) {
		mirrors := func(f *HTTPFilters) bool {
			for i := range f.Mirrors {
				if !yield(f.Mirrors[i].Backend.Service) {
					return false
				}
			}
			return true
		}
		for i := range r.Rules {
			rule := &r.Rules[i]
			if !mirrors(&rule.Filters) {
				return
			}
			for j := range rule.Backends {
				if !yield(rule.Backends[j].Service) || !mirrors(&rule.Backends[j].Filters) {
					return
				}
			}
		}
	}
}
