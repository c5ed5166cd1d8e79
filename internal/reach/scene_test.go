// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func key(name string) mesh.ServiceKey {
	return mesh.ServiceKey{Namespace: "shop", Hostname: name + ".shop.svc.cluster.local"}
}

func at(network, addr string) mesh.NetworkAddress {
	return mesh.NetworkAddress{Network: network, Addr: netip.MustParseAddr(addr)}
}

// podWorkload is a pod of our own network, changed as a case needs it.
func podWorkload(name, addr string, change ...func(*mesh.Workload)) *mesh.Workload {
	w := &mesh.Workload{
		UID: "east//Pod/shop/" + name, Name: name, Namespace: "shop", Network: "east", Cluster: "east", TrustDomain: "cluster.local",
		ServiceAccount: name, Tunnel: mesh.TunnelHBONE, Capacity: 1, Services: map[mesh.ServiceKey][]mesh.Port{},
	}
	if addr != "" {
		w.Addresses = []netip.Addr{netip.MustParseAddr(addr)}
	}
	for _, f := range change {
		f(w)
	}
	return w
}

func serves(name string, service, target uint16) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Services[key(name)] = []mesh.Port{{Service: service, Target: target}} }
}

func behind(gateway mesh.GatewayAddress) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Network, w.NetworkGateway = "west", &gateway }
}

func inNetwork(network string) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Network, w.Cluster = network, network }
}

func shopService(name, vip string, change ...func(*mesh.Service)) *mesh.Service {
	s := &mesh.Service{
		Namespace: "shop", Name: name, Hostname: key(name).Hostname, Ports: []mesh.Port{{Service: 80, Target: 8080}},
		SANs: []string{"spiffe://cluster.local/ns/shop/sa/" + name},
	}
	if vip != "" {
		s.Addresses = []mesh.NetworkAddress{at("east", vip)}
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func viewOf(values ...any) *directory.View {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}}
	for _, value := range values {
		switch value := value.(type) {
		case *mesh.Workload:
			d.Workloads[value.UID] = value
		case *mesh.Service:
			d.Services[value.Key()] = value
		}
	}
	return directory.NewLive().Apply(d)
}
