// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

func streamRouteToProto(r *mesh.StreamRoute) *gatewaypb.StreamRoute {
	if r == nil {
		return nil
	}
	return &gatewaypb.StreamRoute{Namespace: r.Namespace, Name: r.Name, Backends: streamBackendsToProto(r.Backends)}
}

func streamBackendsToProto(in []mesh.StreamBackend) []*gatewaypb.StreamBackend {
	var out []*gatewaypb.StreamBackend
	for _, b := range in {
		to := &gatewaypb.StreamBackend{Service: serviceKeyToProto(b.Service), Port: uint32(b.Port), Weight: b.Weight, Problem: b.Problem}
		for _, e := range b.Endpoints {
			to.Endpoints = append(to.Endpoints, &gatewaypb.Endpoint{Address: e.Addr().AsSlice(), Port: uint32(e.Port())})
		}
		out = append(out, to)
	}
	return out
}

func (r *reader) streamRoute(in *gatewaypb.StreamRoute) *mesh.StreamRoute {
	if in == nil {
		return nil
	}
	return &mesh.StreamRoute{
		Namespace: r.must("route namespace", in.GetNamespace(), maxName), Name: r.must("route name", in.GetName(), maxName),
		Backends: r.streamBackends(in.GetBackends()),
	}
}

func (r *reader) streamBackends(in []*gatewaypb.StreamBackend) []mesh.StreamBackend {
	if len(in) == 0 || !r.count("route backends", len(in), maxMembers) {
		return nil
	}
	out := make([]mesh.StreamBackend, 0, len(in))
	for _, b := range in {
		to := mesh.StreamBackend{
			Port: r.port("backend port", b.GetPort(), true), Weight: b.GetWeight(), Problem: r.text("backend problem", b.GetProblem(), maxValue),
		}
		if s := b.GetService(); s != nil {
			to.Service = r.serviceKey("backend", s.GetNamespace(), s.GetHostname())
		}
		if n := len(b.GetEndpoints()); n > 0 && r.count("backend endpoints", n, maxMembers) {
			to.Endpoints = make([]netip.AddrPort, 0, n)
			for _, e := range b.GetEndpoints() {
				to.Endpoints = append(to.Endpoints, netip.AddrPortFrom(r.addr("backend endpoint", e.GetAddress()), r.port("backend endpoint port", e.GetPort(), false)))
			}
		}
		if r.err != nil {
			return nil
		}
		out = append(out, to)
	}
	return out
}
