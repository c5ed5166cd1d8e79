// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

func tlsRouteToProto(r *mesh.TLSRoute) *gatewaypb.TLSRoute {
	return &gatewaypb.TLSRoute{Namespace: r.Namespace, Name: r.Name, Hostnames: r.Hostnames, Backends: streamBackendsToProto(r.Backends)}
}

func (r *reader) tlsRoutes(in []*gatewaypb.TLSRoute) []*mesh.TLSRoute {
	if len(in) == 0 || !r.count("tls_routes", len(in), maxMembers) {
		return nil
	}
	out := make([]*mesh.TLSRoute, 0, len(in))
	for _, from := range in {
		to := &mesh.TLSRoute{
			Namespace: r.must("route namespace", from.GetNamespace(), maxName),
			Name:      r.must("route name", from.GetName(), maxName),
			Hostnames: r.texts("route hostnames", from.GetHostnames(), maxName),
		}
		to.Backends = r.streamBackends(from.GetBackends())
		if r.err != nil {
			return nil
		}
		out = append(out, to)
	}
	return out
}
