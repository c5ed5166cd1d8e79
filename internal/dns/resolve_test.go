// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func service(namespace, name string, vips ...mesh.NetworkAddress) *mesh.Service {
	return &mesh.Service{Namespace: namespace, Name: name, Hostname: name + "." + namespace + ".svc.cluster.local", Addresses: vips}
}

func vip(network, addr string) mesh.NetworkAddress {
	return mesh.NetworkAddress{Network: network, Addr: netip.MustParseAddr(addr)}
}

func endpoint(uid, network string, s *mesh.Service, unhealthy bool, addrs ...string) *mesh.Workload {
	w := &mesh.Workload{UID: uid, Network: network, Unhealthy: unhealthy, Services: map[mesh.ServiceKey][]mesh.Port{s.Key(): nil}}
	for _, a := range addrs {
		w.Addresses = append(w.Addresses, netip.MustParseAddr(a))
	}
	return w
}

// stage is a view with one service of each kind.
func stage() *directory.View {
	headless := service("shop", "headless")
	hidden := service("shop", "hidden", vip("east", "10.96.0.7"))
	hidden.NamespaceOnly = true
	all := []*mesh.Service{
		service("shop", "cart", vip("east", "10.96.0.1"), vip("west", "10.96.0.99"), vip("east", "fd00:96::1")),
		service("shop", "far", vip("west", "10.96.0.2")),
		service("shop", "only-v4", vip("east", "10.96.0.3")),
		headless, hidden,
		{Namespace: "shop", Name: "ext", Hostname: "api.example.com", Addresses: []mesh.NetworkAddress{vip("east", "240.240.0.1")}},
	}
	d := mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{}, Workloads: map[string]*mesh.Workload{
		"a": endpoint("a", "east", headless, false, "10.0.0.1", "fd00::1"),
		"b": endpoint("b", "east", headless, true, "10.0.0.2"),
		"c": endpoint("c", "west", headless, false, "10.0.0.3"),
	}}
	for _, s := range all {
		d.Services[s.Key()] = s
	}
	return directory.NewLive().Apply(d)
}

func TestResolve(t *testing.T) {
	v := stage()
	for _, tc := range []struct {
		name, namespace string
		want            []string
		hostname        string
	}{
		{name: "cart.shop.svc.cluster.local.", want: []string{"10.96.0.1", "fd00:96::1"}, hostname: "cart.shop.svc.cluster.local"},
		{name: "CART.Shop.svc.cluster.local", want: []string{"10.96.0.1", "fd00:96::1"}, hostname: "cart.shop.svc.cluster.local"},
		{name: "cart.shop.svc.cluster.local.demo.svc.cluster.local.", want: []string{"10.96.0.1", "fd00:96::1"}, hostname: "cart.shop.svc.cluster.local"},
		{name: "cart.shop.svc.cluster.local.svc.cluster.local.", want: []string{"10.96.0.1", "fd00:96::1"}, hostname: "cart.shop.svc.cluster.local"},
		{name: "api.example.com.cluster.local.", want: []string{"240.240.0.1"}, hostname: "api.example.com"},
		{name: "api.example.com.", want: []string{"240.240.0.1"}, hostname: "api.example.com"},
		{name: "headless.shop.svc.cluster.local.", want: []string{"10.0.0.1", "fd00::1"}, hostname: "headless.shop.svc.cluster.local"},
		{name: "hidden.shop.svc.cluster.local.", namespace: "shop", want: []string{"10.96.0.7"}, hostname: "hidden.shop.svc.cluster.local"},
		{name: "hidden.shop.svc.cluster.local."},
		{name: "far.shop.svc.cluster.local."},
		{name: "nobody.shop.svc.cluster.local."},
		{name: "cart.shop.svc.cluster.local.other.svc.cluster.local."},
		{name: "cart.shop."},
		{name: "."},
		{name: ""},
	} {
		client := Client{Network: "east", Namespace: "demo", Domain: "cluster.local"}
		if tc.namespace != "" {
			client.Namespace = tc.namespace
		}
		got, ok := Resolve(v, client, tc.name)
		var addrs []string
		for _, a := range got.Addresses {
			addrs = append(addrs, a.String())
		}
		if ok != (tc.want != nil) || !slices.Equal(addrs, tc.want) || got.Hostname != tc.hostname {
			t.Errorf("%q: %v %v, want %v", tc.name, got, ok, tc.want)
		}
	}
}
