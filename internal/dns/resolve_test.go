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
	w := &mesh.Workload{UID: uid, Name: uid, Network: network, Cluster: network, Unhealthy: unhealthy, Services: map[mesh.ServiceKey][]mesh.Port{s.Key(): nil}}
	for _, a := range addrs {
		w.Addresses = append(w.Addresses, netip.MustParseAddr(a))
	}
	return w
}

// stage is a view with one service of each kind.
func stage() *directory.View {
	headless := service("shop", "headless")
	empty := service("shop", "empty") // headless, and nobody is ready
	single := service("shop", "single")
	single.Families, single.Balance.AllowUnhealthy = mesh.FamiliesIPv4, true
	hidden := service("shop", "hidden", vip("east", "10.96.0.7"))
	hidden.NamespaceOnly = true
	headless.Ports = []mesh.Port{{Service: 80, Target: 8080, Name: "http"}, {Service: 81, Name: "admin"}}
	empty.Ports = headless.Ports
	all := []*mesh.Service{
		service("shop", "cart", vip("east", "10.96.0.1"), vip("west", "10.96.0.99"), vip("east", "fd00:96::1")),
		service("shop", "far", vip("west", "10.96.0.2")),
		service("shop", "only-v4", vip("east", "10.96.0.3")),
		headless, hidden, empty, single,
		{Namespace: "shop", Name: "ext", Hostname: "api.example.com", Addresses: []mesh.NetworkAddress{vip("east", "240.240.0.1")}},
		{Namespace: "shop", Name: "far-ext", Hostname: "far.example.com", Addresses: []mesh.NetworkAddress{vip("west", "240.240.0.1")}},
		{Namespace: "shop", Name: "any", Hostname: "*.wild.example", Addresses: []mesh.NetworkAddress{vip("east", "240.240.0.2")}},
	}
	d := mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{}, Workloads: map[string]*mesh.Workload{}}
	for _, w := range []*mesh.Workload{
		endpoint("web-0", "east", headless, false, "10.0.0.1", "fd00::1"),
		endpoint("web-1", "east", headless, true, "10.0.0.2"),
		endpoint("web-2", "west", headless, false, "10.0.0.3"),
		endpoint("slice/10.0.0.4", "east", headless, false, "10.0.0.4"), // a pod on the host network, and an endpoint that is no pod
		endpoint("host", "east", headless, false, "10.0.0.4"),
		endpoint("single-0", "east", single, true, "10.0.0.5", "fd00::5"),
		endpoint("empty-0", "east", empty, true, "10.0.0.6"),
	} {
		d.Workloads[w.UID] = w
	}
	// The same StatefulSet in another cluster of the same network.
	twin := endpoint("web-0", "east", headless, false, "10.0.0.9")
	twin.UID, twin.Cluster = "twin", "north"
	d.Workloads[twin.UID] = twin
	d.Workloads["web-0"].Services[headless.Key()] = []mesh.Port{{Service: 80, Target: 8888}, {Service: 81, Target: 9000}}
	all[0].Ports = []mesh.Port{{Service: 80, Name: "http"}, {Service: 81}, {Service: 443, Name: "https"}, {Service: 8080, Name: "http"}}
	for _, s := range all {
		d.Services[s.Key()] = s
	}
	return directory.NewLive().Apply(d)
}

var testClient = Client{Network: "east", Cluster: "east", Namespace: "demo", Domain: "cluster.local"}

func TestResolve(t *testing.T) {
	v := stage()
	const cart = "cart.shop.svc.cluster.local"
	cartHas := []string{"10.96.0.1", "fd00:96::1"}
	for _, tc := range []struct {
		name, namespace string
		want            []string
		hostname        string // the name asked, if empty
		found           Found
		ttl             uint32
	}{
		{name: cart, want: cartHas, found: Known, ttl: vipTTL},
		{name: "CART.Shop.svc.cluster.local.", want: cartHas, hostname: cart, found: Known, ttl: vipTTL},
		{name: cart + ".demo.svc.cluster.local.", want: cartHas, hostname: cart, found: Known, ttl: vipTTL},
		{name: cart + ".svc.cluster.local", want: cartHas, hostname: cart, found: Known, ttl: vipTTL},
		{name: cart + ".cluster.local", want: cartHas, hostname: cart, found: Known, ttl: vipTTL},
		{name: "api.example.com.cluster.local", want: []string{"240.240.0.1"}, hostname: "api.example.com", found: Known, ttl: vipTTL},
		{name: "api.example.com", want: []string{"240.240.0.1"}, found: Known, ttl: vipTTL},
		{name: "a.b.wild.example", want: []string{"240.240.0.2"}, found: Known, ttl: vipTTL},
		{name: "wild.example"},
		{name: "hidden.shop.svc.cluster.local", namespace: "shop", want: []string{"10.96.0.7"}, found: Known, ttl: vipTTL},
		{name: "hidden.shop.svc.cluster.local"},

		// Headless: ready pods of this network, each address once.
		{name: "headless.shop.svc.cluster.local", want: []string{"10.0.0.1", "10.0.0.4", "10.0.0.9", "fd00::1"}, found: Known, ttl: podTTL},
		{name: "single.shop.svc.cluster.local", want: []string{"10.0.0.5"}, found: Known, ttl: podTTL},
		// Pods of one: by name, by address where the name is none, in this cluster before others, and ready ones only.
		{name: "web-0.headless.shop.svc.cluster.local", want: []string{"10.0.0.1", "fd00::1"}, found: Known, ttl: podTTL},
		{name: "web-0.headless.shop.svc.cluster.local.demo.svc.cluster.local", want: []string{"10.0.0.1", "fd00::1"}, hostname: "web-0.headless.shop.svc.cluster.local", found: Known, ttl: podTTL},
		{name: "10-0-0-4.headless.shop.svc.cluster.local", want: []string{"10.0.0.4"}, found: Known, ttl: podTTL},
		{name: "web-1.headless.shop.svc.cluster.local"},
		{name: "web-2.headless.shop.svc.cluster.local"},
		{name: "web-0.cart.shop.svc.cluster.local"},
		{name: "a.web-0.headless.shop.svc.cluster.local"},

		// There is such a service, with no address for this client. A public name may have some in the public DNS.
		{name: "far.shop.svc.cluster.local", found: Exists},
		{name: "empty.shop.svc.cluster.local", found: Exists},
		{name: "far.shop.svc.cluster.local.demo.svc.cluster.local"},
		{name: "far.example.com"},

		{name: "nobody.shop.svc.cluster.local"},
		{name: cart + ".other.svc.cluster.local"},
		// What a search domain must complete first.
		{name: "cart.shop.svc"},
		{name: "cart.shop"},
		{name: "cart"},
		{name: "."},
		{name: ""},
	} {
		client := testClient
		if tc.namespace != "" {
			client.Namespace = tc.namespace
		}
		got, found := Resolve(v, client, tc.name)
		var addrs []string
		for _, a := range got.Addresses {
			addrs = append(addrs, a.String())
		}
		slices.Sort(addrs)
		if tc.found == Known && tc.hostname == "" {
			tc.hostname = tc.name
		}
		if found != tc.found || !slices.Equal(addrs, tc.want) || got.Hostname != tc.hostname || got.TTL != tc.ttl {
			t.Errorf("%q: %v %+v, want %v %+v", tc.name, found, got, tc.found, tc)
		}
	}
}

func TestResolveReverse(t *testing.T) {
	v := stage()
	for name, want := range map[string]string{
		"1.0.96.10.in-addr.arpa.":   "cart.shop.svc.cluster.local",
		"1.0.240.240.In-Addr.ARPA.": "api.example.com",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa": "cart.shop.svc.cluster.local",
		"2.0.240.240.in-addr.arpa.": "", // all names below one have it
		"99.0.96.10.in-addr.arpa.":  "", // of another network
		"7.0.96.10.in-addr.arpa.":   "", // hidden from this namespace
		"1.0.0.10.in-addr.arpa.":    "", // a pod's
		"01.0.96.10.in-addr.arpa.":  "",
		"257.0.96.10.in-addr.arpa.": "",
		"1.1.0.96.10.in-addr.arpa.": "",
		"0.96.10.in-addr.arpa.":     "",
		"in-addr.arpa.":             "",
		"x.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa": "",
		"10.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f..ip6.arpa": "",
	} {
		got, found := Resolve(v, testClient, name)
		if got.Pointer != want || (found == Known) != (want != "") {
			t.Errorf("%s: %+v %v, want %q", name, got, found, want)
		}
	}
}
