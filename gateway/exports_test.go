// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// exporting is a view and a configuration: cart and till are exported, secret is not, till is for its own namespace only,
// vanished is exported and unknown, and two namespaces claim twice.
func exporting(workloads ...*mesh.Workload) (*directory.View, *config) {
	service := func(namespace, host, vip string, change func(*mesh.Service)) *mesh.Service {
		s := &mesh.Service{
			Namespace: namespace, Hostname: host, Ports: []mesh.Port{{Service: 80, Target: 8080}, {Service: 90}},
			Addresses: []mesh.NetworkAddress{{Network: "west", Addr: netip.MustParseAddr(vip)}, {Network: "east", Addr: netip.MustParseAddr("10.99.0.1")}},
		}
		if change != nil {
			change(s)
		}
		return s
	}
	d := mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{}, Workloads: map[string]*mesh.Workload{}}
	for _, s := range []*mesh.Service{
		service("shop", hostname, "10.96.0.7", nil),
		service("shop", "till.shop.svc.cluster.local", "fd00::7", func(s *mesh.Service) { s.NamespaceOnly = true }),
		service("shop", "secret.shop.svc.cluster.local", "10.96.0.9", nil),
		service("a", "twice.example", "10.96.0.10", nil),
		service("b", "twice.example", "10.96.0.11", nil),
	} {
		d.Services[s.Key()] = s
	}
	for _, w := range workloads {
		d.Workloads[w.UID] = w
	}
	live := directory.NewLive()
	live.Apply(d)
	return live.Load(), newConfig(&mesh.Gateway{
		Network: "west",
		Exports: []mesh.ServiceKey{
			{Namespace: "a", Hostname: "twice.example"}, {Namespace: "b", Hostname: "twice.example"}, cartKey,
			{Namespace: "shop", Hostname: "till.shop.svc.cluster.local"}, {Namespace: "shop", Hostname: "vanished.shop.svc.cluster.local"},
		},
		TrustDomains: []string{"cluster.local", "friend.example"},
	}, "ignored", "cluster.local", nil)
}

func TestResolve(t *testing.T) {
	v, c := exporting()
	friend := mesh.Identity{TrustDomain: "friend.example", Namespace: "x", ServiceAccount: "y"}
	// Who may call itself so is decided by the friend.
	namesake := mesh.Identity{TrustDomain: "friend.example", Namespace: "shop", ServiceAccount: "till"}
	for _, tc := range []struct {
		authority string
		peer      mesh.Identity
		service   string
		status    int
		reason    Reason
	}{
		{authority, clientID, hostname, 0, ""},
		{authority, friend, hostname, 0, ""},
		{strings.ToUpper(hostname) + ":80", clientID, hostname, 0, ""},
		{"10.96.0.7:80", clientID, hostname, 0, ""},
		{"[::ffff:10.96.0.7]:80", clientID, hostname, 0, ""},
		{hostname + ":90", clientID, hostname, 0, ""}, // a named port: the endpoint knows
		{"[fd00::7]:80", clientID, "till.shop.svc.cluster.local", 0, ""},
		{"till.shop.svc.cluster.local:80", clientID, "till.shop.svc.cluster.local", 0, ""},
		{"till.shop.svc.cluster.local:80", friend, "", 401, ReasonNamespace},
		{"till.shop.svc.cluster.local:80", namesake, "", 401, ReasonNamespace},
		{"[fd00::7]:80", namesake, "", 503, ReasonNotExported}, // nor do strangers to the namespace learn whose address it is
		{authority, namesake, hostname, 0, ""},
		{"10.96.0.11:80", clientID, "twice.example", 0, ""}, // by address it is clear who is meant

		{authority, mesh.Identity{}, "", 401, ReasonTrustDomain},
		{authority, strangeID, "", 401, ReasonTrustDomain},
		{"nobody.shop.svc.cluster.local:80", strangeID, "", 401, ReasonTrustDomain},
		{"nobody.shop.svc.cluster.local:80", clientID, "", 503, ReasonNotExported},
		{"secret.shop.svc.cluster.local:80", clientID, "", 503, ReasonNotExported},
		{"10.96.0.9:80", clientID, "", 503, ReasonNotExported},
		{"10.99.0.1:80", clientID, "", 503, ReasonNotExported}, // a VIP of another network
		{"vanished.shop.svc.cluster.local:80", clientID, "", 503, ReasonNotExported},
		{"twice.example:80", clientID, "", 503, ReasonNotExported},
		{hostname + ":81", clientID, "", 503, ReasonUnknownPort},
		{hostname, clientID, "", 400, ReasonBadAuthority},
		{hostname + ".:80", clientID, "", 400, ReasonBadAuthority},
		{hostname + ":0", clientID, "", 400, ReasonBadAuthority},
		{"", clientID, "", 400, ReasonBadAuthority},
	} {
		got, refusal := c.resolve(v, tc.peer, tc.authority)
		switch {
		case tc.status == 0 && refusal != nil:
			t.Errorf("%s as %s: %v", tc.authority, tc.peer, refusal)
		case tc.status == 0 && got.service.Hostname != tc.service:
			t.Errorf("%s: service %s, want %s", tc.authority, got.service.Hostname, tc.service)
		case tc.status != 0 && (refusal == nil || refusal.Status != tc.status || refusal.Reason != tc.reason):
			t.Errorf("%s as %s: %v, want %d %s", tc.authority, tc.peer, refusal, tc.status, tc.reason)
		}
	}
}

// TestResolveAlias: who is of a namespace is known under each name of our trust domain.
func TestResolveAlias(t *testing.T) {
	v, c := exporting()
	c.canonical = func(domain string) string { return strings.Replace(domain, "friend.example", "cluster.local", 1) }
	for peer, want := range map[mesh.Identity]Reason{
		{TrustDomain: "friend.example", Namespace: "shop", ServiceAccount: "x"}: "",
		{TrustDomain: "friend.example", Namespace: "else", ServiceAccount: "x"}: ReasonNamespace,
	} {
		got := Reason("")
		if _, refusal := c.resolve(v, peer, "till.shop.svc.cluster.local:80"); refusal != nil {
			got = refusal.Reason
		}
		if got != want {
			t.Errorf("%s: %q, want %q", peer, got, want)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	c := newConfig(&mesh.Gateway{}, "north", "own.example", nil)
	if _, ok := c.domains["own.example"]; !ok || len(c.domains) != 1 || c.network != "north" {
		t.Errorf("domains %v, network %q", c.domains, c.network)
	}
}

func TestCandidates(t *testing.T) {
	good := podWorkload(1, nil)
	others := []*mesh.Workload{
		podWorkload(2, func(w *mesh.Workload) { w.Unhealthy = true }),
		podWorkload(3, func(w *mesh.Workload) { w.Tunnel = mesh.TunnelNone }),
		podWorkload(4, func(w *mesh.Workload) { w.Network = "east" }),
		podWorkload(5, func(w *mesh.Workload) { w.Addresses = nil }),
		podWorkload(6, func(w *mesh.Workload) { w.Services = nil }),
		podWorkload(7, func(w *mesh.Workload) { // another network's endpoints, behind its gateway
			w.Network, w.Addresses, w.NetworkGateway = "east", nil, &mesh.GatewayAddress{Port: 15008}
		}),
		podWorkload(8, func(w *mesh.Workload) { // the same, telling a lie about its network
			w.NetworkGateway = &mesh.GatewayAddress{Port: 15008}
		}),
	}
	secret := &mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "shop", Hostname: "secret.shop.svc.cluster.local"}, Port: 15018}
	gone := &mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "shop", Hostname: "gone"}, Port: 15008}
	behindSecret := podWorkload(9, func(w *mesh.Workload) { w.Services = map[mesh.ServiceKey][]mesh.Port{secret.Hostname: nil} })
	waypointOf := func(n int, cluster string) *mesh.Workload {
		return podWorkload(n, func(w *mesh.Workload) {
			w.Cluster, w.Services = cluster, map[mesh.ServiceKey][]mesh.Port{secret.Hostname: nil}
		})
	}
	for _, tc := range []struct {
		name  string
		port  uint16
		svc   func(*mesh.Service)
		own   string // cluster of the gateway, if it is known
		extra []*mesh.Workload
		want  []string
	}{
		{name: "the one good pod", port: 80, want: []string{"10.0.0.1:15008"}},
		{name: "unhealthy ones too", port: 80, svc: func(s *mesh.Service) { s.Balance.AllowUnhealthy = true }, want: []string{"10.0.0.1:15008", "10.0.0.2:15008"}},
		{name: "a port that no pod has", port: 90, want: nil},
		{name: "a named port that one pod has", port: 90, extra: []*mesh.Workload{podWorkload(9, func(w *mesh.Workload) {
			w.Services = map[mesh.ServiceKey][]mesh.Port{cartKey: {{Service: 90, Target: 9090}}}
		})}, want: []string{"10.0.0.9:15008"}},
		{name: "the family of the service", port: 80, svc: func(s *mesh.Service) { s.Families = mesh.FamiliesIPv6 }, extra: []*mesh.Workload{podWorkload(9, func(w *mesh.Workload) {
			w.Addresses = append(w.Addresses, netip.MustParseAddr("fd00::9"))
		})}, want: []string{"[fd00::9]:15008"}},
		{name: "its waypoint, not its pods", port: 80, svc: func(s *mesh.Service) { s.Waypoint = secret }, extra: []*mesh.Workload{behindSecret}, want: []string{"10.0.0.9:15018"}},
		{name: "its waypoint of clusters that have it", port: 80, svc: func(s *mesh.Service) { s.Waypoint = secret }, extra: []*mesh.Workload{
			behindSecret, waypointOf(10, "south"), waypointOf(11, "south-west"), podWorkload(12, func(w *mesh.Workload) { w.Cluster, w.Unhealthy = "south", true }),
			podWorkload(13, func(w *mesh.Workload) { w.Cluster, w.Network = "south-west", "south" }),
			podWorkload(14, func(w *mesh.Workload) { // says that it is here
				w.Cluster, w.Addresses, w.NetworkGateway = "south-west", nil, &mesh.GatewayAddress{Port: 15008}
			}),
		}, want: []string{"10.0.0.10:15018", "10.0.0.9:15018"}},
		{name: "its waypoint of a cluster that has it alone", port: 80, svc: func(s *mesh.Service) { s.Waypoint = secret }, extra: []*mesh.Workload{waypointOf(10, "south")}, want: nil},
		{name: "its waypoint of our cluster, where it has no pod", port: 80, svc: func(s *mesh.Service) { s.Waypoint = secret }, own: "south", extra: []*mesh.Workload{waypointOf(10, "south")}, want: []string{"10.0.0.10:15018"}},
		{name: "its waypoint by address", port: 80, svc: func(s *mesh.Service) {
			s.Waypoint = &mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: "west", Addr: netip.MustParseAddr("10.96.0.9")}, Port: 15008}
		}, extra: []*mesh.Workload{behindSecret}, want: []string{"10.0.0.9:15008"}},
		{name: "one of several waypoints, not the single one", port: 80, svc: func(s *mesh.Service) {
			s.Waypoint = gone
			s.Waypoints = []mesh.WeightedWaypoint{{At: *gone}, {At: *secret, Weight: 1}}
		}, extra: []*mesh.Workload{behindSecret}, want: []string{"10.0.0.9:15018"}},
		{name: "of several waypoints one that is here", port: 80, svc: func(s *mesh.Service) {
			s.Waypoints = []mesh.WeightedWaypoint{{At: *gone, Weight: 9}, {At: *secret, Weight: 1}}
		}, extra: []*mesh.Workload{behindSecret}, want: []string{"10.0.0.9:15018"}},
		{name: "several waypoints without a weight are none", port: 80, svc: func(s *mesh.Service) {
			s.Waypoints = []mesh.WeightedWaypoint{{At: *secret}}
		}, want: []string{"10.0.0.1:15008"}},
		{name: "several waypoints that are not there are not walked around", port: 80, svc: func(s *mesh.Service) {
			s.Waypoints = []mesh.WeightedWaypoint{{At: *gone, Weight: 1}, {At: *gone, Weight: 1}}
		}, want: nil},
		{name: "a waypoint that is not there is not walked around", port: 80, svc: func(s *mesh.Service) { s.Waypoint = gone }, want: nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, c := exporting(append(append([]*mesh.Workload{good}, others...), tc.extra...)...)
			service := *v.Service(cartKey)
			if tc.svc != nil {
				tc.svc(&service)
			}
			var got []string
			var own *mesh.Workload
			if tc.own != "" {
				own = &mesh.Workload{Cluster: tc.own}
			}
			for _, e := range c.candidates(v, target{service: &service, port: tc.port}, own) {
				got = append(got, e.dial.String())
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// Streams share the waypoints of a service by weight, each one all of its attempts.
func TestStreamsShareWaypoints(t *testing.T) {
	at := func(name string) mesh.GatewayAddress {
		return mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "shop", Hostname: name}, Port: 15008}
	}
	d := mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{}, Workloads: map[string]*mesh.Workload{}}
	service := &mesh.Service{Namespace: "shop", Hostname: hostname, Ports: []mesh.Port{{Service: 80, Target: 8080}}}
	for i, weight := range []uint32{1, 0, 2, 4} {
		front := at(string(rune('a' + i)))
		service.Waypoints = append(service.Waypoints, mesh.WeightedWaypoint{At: front, Weight: weight})
		d.Services[front.Hostname] = &mesh.Service{Namespace: "shop", Hostname: front.Hostname.Hostname}
		w := podWorkload(i+1, func(w *mesh.Workload) { w.Services = map[mesh.ServiceKey][]mesh.Port{front.Hostname: nil} })
		d.Workloads[w.UID] = w
	}
	live := directory.NewLive()
	v, c := live.Apply(d), newConfig(&mesh.Gateway{Network: "west"}, "", "cluster.local", nil)
	got := map[string]int{}
	for draw := range uint64(70) {
		for range 2 {
			for _, e := range c.candidates(v, target{service: service, port: 80, draw: draw}, &mesh.Workload{Cluster: "west"}) {
				got[e.dial.Addr().String()]++
			}
		}
	}
	if want := map[string]int{"10.0.0.1": 20, "10.0.0.3": 40, "10.0.0.4": 80}; !maps.Equal(got, want) {
		t.Errorf("streams went to %v, want %v", got, want)
	}
}

// FuzzResolve looks for authorities that reach what is not exported, or that are read in two ways.
func FuzzResolve(f *testing.F) {
	v, c := exporting()
	for _, s := range []string{authority, "10.96.0.7:80", "[fd00::7]:80", "secret.shop.svc.cluster.local:80", "cart.shop.svc.cluster.local.:80", "[::ffff:10.96.0.9]:80", "twice.example:80", "a@b:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, refusal := c.resolve(v, clientID, s)
		if refusal == nil && got.service == nil || refusal != nil && got.service != nil && refusal.Reason != ReasonUnknownPort {
			t.Fatalf("%q: service %v, refusal %v", s, got.service, refusal)
		}
		if refusal != nil {
			return
		}
		asked, err := hbone.ParseAuthority(s)
		if err != nil || asked.Port != got.port {
			t.Fatalf("%q: %v, port %d", s, err, got.port)
		}
		if _, ok := c.exported[got.service.Key()]; !ok {
			t.Fatalf("%q reached %s", s, got.service.Key())
		}
		if asked.Hostname != "" && !strings.EqualFold(asked.Hostname, got.service.Hostname) {
			t.Fatalf("%q reached %s", s, got.service.Key())
		}
	})
}
