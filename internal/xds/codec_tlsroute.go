// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

func tlsRouteToProto(r *mesh.TLSRoute) *gatewaypb.TLSRoute {
	out := &gatewaypb.TLSRoute{Namespace: r.Namespace, Name: r.Name, Created: r.Created, Hostnames: r.Hostnames}
	for _, b := range r.Backends {
		to := &gatewaypb.TLSBackend{Port: uint32(b.Port), Weight: b.Weight, Problem: b.Problem}
		if b.Service != (mesh.ServiceKey{}) {
			to.Service = &gatewaypb.ServiceKey{Namespace: b.Service.Namespace, Hostname: b.Service.Hostname}
		}
		out.Backends = append(out.Backends, to)
	}
	return out
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
			Created:   from.GetCreated(),
			Hostnames: r.texts("route hostnames", from.GetHostnames(), maxName),
		}
		if r.count("route backends", len(from.GetBackends()), maxMembers) {
			for _, b := range from.GetBackends() {
				to.Backends = append(to.Backends, r.tlsBackend(b))
			}
		}
		if r.err != nil {
			return nil
		}
		out = append(out, to)
	}
	return out
}

func (r *reader) tlsBackend(b *gatewaypb.TLSBackend) mesh.TLSBackend {
	out := mesh.TLSBackend{
		Port: r.port("backend port", b.GetPort(), true), Weight: b.GetWeight(), Problem: r.text("backend problem", b.GetProblem(), maxValue),
	}
	if s := b.GetService(); s != nil {
		out.Service = r.serviceKey("backend", s.GetNamespace(), s.GetHostname())
	}
	return out
}
