// SPDX-License-Identifier: Apache-2.0

// Package shop has workloads and services of one namespace, shop, as discovery tells of them, for tests of what is done with them.
package shop

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Key is that of a service of the shop.
func Key(name string) mesh.ServiceKey {
	return mesh.ServiceKey{Namespace: "shop", Hostname: name + ".shop.svc.cluster.local"}
}

// At is an address in a network. It panics when addr is none.
func At(network, addr string) mesh.NetworkAddress {
	return mesh.NetworkAddress{Network: network, Addr: netip.MustParseAddr(addr)}
}

// Pod is a pod of cluster and network east that speaks HBONE, with an account of its name, changed as a case needs it. Without addr it has no address.
func Pod(name, addr string, change ...func(*mesh.Workload)) *mesh.Workload {
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

// Serves has a pod serve a service of the shop, whose port is service, at its own port target.
func Serves(name string, service, target uint16) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Services[Key(name)] = []mesh.Port{{Service: service, Target: target}} }
}

// Behind has a pod be in network west, reached through a gateway.
func Behind(gateway mesh.GatewayAddress) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Network, w.NetworkGateway = "west", &gateway }
}

// InNetwork has a pod be in a cluster and a network of that name.
func InNetwork(network string) func(*mesh.Workload) {
	return func(w *mesh.Workload) { w.Network, w.Cluster = network, network }
}

// Service is one with port 80, to pods' port 8080, whose pods run as an account of its name, changed as a case needs it. Without vip it has no address.
func Service(name, vip string, change ...func(*mesh.Service)) *mesh.Service {
	s := &mesh.Service{
		Namespace: "shop", Name: name, Hostname: Key(name).Hostname, Ports: []mesh.Port{{Service: 80, Target: 8080}},
		SANs: []string{"spiffe://cluster.local/ns/shop/sa/" + name},
	}
	if vip != "" {
		s.Addresses = []mesh.NetworkAddress{At("east", vip)}
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// View knows values, each a *mesh.Workload or a *mesh.Service; of others it knows nothing.
func View(values ...any) *directory.View {
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
