// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// GatewayOf finds who stands in front of an endpoint of another network: a workload, or a service of whose endpoints one is dialled. Both are nil if it has no gateway, or one that is
// not known. The workload that stands for that very gateway comes first: others may be at its address with other ports, or be called the same in another network, and have identities of their own.
func (v *View) GatewayOf(w *mesh.Workload) (host *mesh.Workload, front *mesh.Service) {
	at := w.NetworkGateway
	switch {
	case at == nil:
		return nil, nil
	case at.Hostname.Hostname != "":
		if host = v.gateway(w.Network, at.Hostname.Hostname, at.Port); host == nil {
			host = v.WorkloadNamed(at.Hostname)
		}
		if host == nil {
			front = v.Service(at.Hostname)
		}
	default:
		if host = v.gateway(at.Addr.Network, at.Addr.Addr.Unmap().String(), at.Port); host == nil {
			host = v.WorkloadAt(at.Addr.Network, at.Addr.Addr)
		}
		if host == nil {
			front = v.ServiceAt(at.Addr.Network, at.Addr.Addr, w.Namespace)
		}
	}
	return host, front
}

// gateway finds the workload that stands for a gateway at an address or hostname, or nil.
func (v *View) gateway(network, address string, port uint16) *mesh.Workload {
	if host := v.Workload(mesh.GatewayUID(network, address, cmp.Or(port, mesh.HBONEPort))); host != nil {
		return host
	}
	return v.Workload(mesh.GatewayUID(network, address, 0))
}

// Gateway is the question about the endpoints of a gateway, a service, in front of a workload.
func (want Want) Gateway(front *mesh.Service, w *mesh.Workload) Want {
	want.Network, want.Service, want.Port, want.LocalOnly = w.Network, front, cmp.Or(w.NetworkGateway.Port, mesh.HBONEPort), true
	want.Only = nil // is about others
	return want
}

// others says whether there is a usable endpoint besides one, and a way to it. Those of the asker's network, to whom there always is one, are looked at first.
func (want *Want) others(v *View, all []*mesh.Workload, but *mesh.Workload) bool {
	for _, far := range [...]bool{false, true} {
		for _, w := range all {
			if w == but || w.Network != want.Network != far {
				continue
			}
			if _, miss := want.usable(w); miss == Usable && want.rank(w) >= 0 && (!far || want.way(v, w)) {
				return true
			}
		}
	}
	return false
}

// way says whether one is known to an endpoint of another network: its gateway is known, and if that is a service, has an endpoint.
func (want *Want) way(v *View, w *mesh.Workload) bool {
	host, front := v.GatewayOf(w)
	if host != nil || front == nil {
		return host != nil
	}
	gateway := want.Gateway(front, w)
	for _, pod := range v.Endpoints(front.Key()) {
		if e, miss := gateway.usable(pod); miss == Usable && gateway.rank(pod) >= 0 && e.Addr.IsValid() {
			return true
		}
	}
	return false
}
