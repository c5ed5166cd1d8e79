// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

func serviceKeyToProto(k mesh.ServiceKey) *gatewaypb.ServiceKey {
	if k == (mesh.ServiceKey{}) {
		return nil
	}
	return &gatewaypb.ServiceKey{Namespace: k.Namespace, Hostname: k.Hostname}
}

func serviceKeysToProto(in []mesh.ServiceKey) []*gatewaypb.ServiceKey {
	var out []*gatewaypb.ServiceKey
	for _, k := range in {
		out = append(out, serviceKeyToProto(k))
	}
	return out
}

func (r *reader) serviceKeys(field string, in []*gatewaypb.ServiceKey) []mesh.ServiceKey {
	if len(in) == 0 || !r.count(field, len(in), maxMembers) {
		return nil
	}
	out := make([]mesh.ServiceKey, 0, len(in))
	for _, k := range in {
		out = append(out, r.serviceKey(field, k.GetNamespace(), k.GetHostname()))
	}
	return out
}

func (t *routeTable) ofServices(in []mesh.ServiceRoutes) []*gatewaypb.ServiceRoutes {
	var out []*gatewaypb.ServiceRoutes
	for _, of := range in {
		to := &gatewaypb.ServiceRoutes{Service: serviceKeyToProto(of.Service), Port: uint32(of.Port), Consumer: of.Consumer}
		for _, route := range of.Routes {
			to.HttpRoutes = append(to.HttpRoutes, t.place(route))
		}
		out = append(out, to)
	}
	return out
}

// serviceRoutes reads the routes at services, which lookups want in order.
func (r *reader) serviceRoutes(in []*gatewaypb.ServiceRoutes, routes []*mesh.HTTPRoute) []mesh.ServiceRoutes {
	if len(in) == 0 || !r.count("service_routes", len(in), maxMembers) {
		return nil
	}
	out := make([]mesh.ServiceRoutes, 0, len(in))
	for _, of := range in {
		key := r.serviceKey("service_routes", of.GetService().GetNamespace(), of.GetService().GetHostname())
		out = append(out, mesh.ServiceRoutes{
			Service: key, Port: r.port("service_routes port", of.GetPort(), true), Consumer: r.text("consumer", of.GetConsumer(), maxName),
			Routes: r.places("service "+key.String(), of.GetHttpRoutes(), routes),
		})
		if r.err != nil {
			return nil
		}
	}
	if !slices.IsSortedFunc(out, mesh.CompareServiceRoutes) {
		r.fail("service_routes are not in order")
	}
	return out
}
