// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func out(uids ...string) Out {
	o := Out{Endpoints: map[string]struct{}{}}
	for _, uid := range uids {
		o.Endpoints[uid] = struct{}{}
	}
	return o
}

// Of ten endpoints two may carry everything, one may not; but whoever was sent to a bad one goes on to a good one.
func TestPickPanics(t *testing.T) {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{cart: service("shop", cart.Hostname, "10.96.0.1")}}
	var uids []string
	for i := range 10 {
		w := workload(i)
		w.Services = map[mesh.ServiceKey][]mesh.Port{cart: {{Service: 80, Target: 8080}}}
		d.Workloads[w.UID] = w
		uids = append(uids, w.UID)
	}
	v := NewLive().Apply(d)
	reached := func(want Want) int {
		seen := map[string]struct{}{}
		want.Network, want.Service, want.Port = "east", v.Service(cart), 80
		for at := range uint64(10) {
			want.Random = func(n uint64) uint64 { return min(at, n-1) }
			if e, ok := Pick(v, want); ok {
				seen[e.Workload.UID] = struct{}{}
			}
		}
		return len(seen)
	}
	for _, tc := range []struct {
		ejected int
		avoid   Out
		want    int
	}{{0, Out{}, 10}, {5, Out{}, 5}, {8, Out{}, 2}, {9, Out{}, 10}, {10, Out{}, 10}, {9, out(uids[0]), 1}, {10, out(uids[0]), 9}} {
		if got := reached(Want{Ejected: out(uids[:tc.ejected]...), Avoid: tc.avoid}); got != tc.want {
			t.Errorf("%d of 10 ejected, %d avoided: %d are picked, want %d", tc.ejected, len(tc.avoid.Endpoints), got, tc.want)
		}
	}
}

// What is left is weighed by capacity, not counted: one that stands for nine pods is as much as nine of them. Who is behind a gateway that is down is not weighed, and not used while
// anybody else is there; and nobody is left without any endpoint.
func TestPickPanicsByCapacity(t *testing.T) {
	pods := func(n int) []uint32 { return slices.Repeat([]uint32{1}, n) }
	for _, tc := range []struct {
		name          string
		local, remote []uint32 // capacities; each remote one is behind a gateway of its own
		// ejected by itself, and gateways that are down: the first so many of each.
		locals, remotes, gateways int
		again                     bool // the first attempt failed, at an endpoint that is none of these
		picks                     string
	}{
		{"all near ones fail, and one stands for as many", pods(9), []uint32{9}, 9, 0, 0, false, "r0"},
		{"all near ones fail, and one stands for one", pods(9), []uint32{1}, 9, 0, 0, false, "l0 l1 l2 l3 l4 l5 l6 l7 l8 r0"},
		{"the same, again", pods(9), []uint32{1}, 9, 0, 0, true, "r0"},
		{"one that stands for nine fails", pods(1), []uint32{9}, 0, 1, 0, false, "l0"},
		{"the same, again", pods(1), []uint32{9}, 0, 1, 0, true, "l0"},
		{"one that stands for four fails", pods(1), []uint32{4}, 0, 1, 0, false, "l0"},
		{"the gateway of nine is down", pods(1), []uint32{9}, 0, 0, 1, false, "l0"},
		{"the gateway of nine is down, and most of the others fail", pods(6), []uint32{9}, 5, 0, 1, false, "l0 l1 l2 l3 l4 l5"},
		{"the gateway of nine is down, and half of the others fail", pods(6), []uint32{9}, 3, 0, 1, false, "l3 l4 l5"},
		{"the gateway is down, and all others fail", pods(2), []uint32{9}, 2, 0, 1, false, "l0 l1 r0"},
		{"all gateways are down, and there is nothing else", nil, []uint32{3, 9}, 0, 0, 2, false, "r0 r1"},
		{"of three clusters the largest fails", nil, []uint32{9, 5, 3}, 0, 1, 0, false, "r1 r2"},
		{"of three clusters the smallest is left", nil, []uint32{9, 5, 3}, 0, 2, 0, false, "r2"},
		{"no capacity is told, one of two fails", []uint32{0, 0}, nil, 1, 0, 0, false, "l1"},
		{"no capacity is told, and all fail", []uint32{0, 0}, nil, 2, 0, 0, false, "l0 l1"},
		{"only one without capacity is left", []uint32{1, 0}, nil, 1, 0, 0, true, "l1"},
	} {
		d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{cart: service("shop", cart.Hostname, "10.96.0.1")}}
		put := func(prefix string, i int, capacity uint32, change func(*mesh.Workload)) {
			w := workload(len(d.Workloads))
			w.UID, w.Capacity, w.Services = prefix+strconv.Itoa(i), capacity, map[mesh.ServiceKey][]mesh.Port{cart: {{Service: 80, Target: 8080}}}
			change(w)
			d.Workloads[w.UID] = w
		}
		want := Want{Network: "east", Port: 80, Ejected: Out{Endpoints: map[string]struct{}{}, Gateways: map[mesh.GatewayAddress]struct{}{}}}
		for i, capacity := range tc.local {
			put("l", i, capacity, func(w *mesh.Workload) {
				if i < tc.locals {
					want.Ejected.Endpoints[w.UID] = struct{}{}
				}
			})
		}
		for i, capacity := range tc.remote {
			put("r", i, capacity, func(w *mesh.Workload) {
				w.Network, w.Addresses, w.NetworkGateway = "west", nil, &mesh.GatewayAddress{Port: uint16(15008 + i)}
				if i < tc.remotes {
					want.Ejected.Endpoints[w.UID] = struct{}{}
				}
				if i < tc.gateways {
					want.Ejected.Gateways[*w.NetworkGateway] = struct{}{}
				}
			})
		}
		if tc.again {
			want.Avoid = out("somebody")
		}
		v := NewLive().Apply(d)
		want.Service = v.Service(cart)
		seen := map[string]struct{}{}
		for at := range uint64(40) {
			want.Random = func(n uint64) uint64 { return min(at, n-1) }
			if e, ok := Pick(v, want); ok {
				seen[e.Workload.UID] = struct{}{}
			}
		}
		if got := strings.Join(slices.Sorted(maps.Keys(seen)), " "); got != tc.picks {
			t.Errorf("%s: picked %q, want %q", tc.name, got, tc.picks)
		}
	}
}

// In what order a service that wants to be near fails over: a rank of which too little is left passes on to the next one, also if that is much smaller.
func TestPickFailsOverInOrder(t *testing.T) {
	locals := func(from, to int) (names string) {
		for i := from; i < to; i++ {
			names += " l" + strconv.Itoa(i)
		}
		return strings.TrimSpace(names)
	}
	for _, tc := range []struct {
		name    string
		ejected string // of nine local ones, one in another network of the same region, and one far away, by themselves
		down    string // gateways
		again   bool
		picks   string
	}{
		{"all is well", "", "", false, locals(0, 9)},
		{"some fail here", locals(0, 7), "", false, locals(7, 9)},
		{"most fail here", locals(0, 8), "", false, "near"},
		{"most fail here, again", locals(0, 8), "", true, "l8"},
		{"all fail here", locals(0, 9), "", false, "near"},
		{"all fail here, again", locals(0, 9), "", true, "near"},
		{"all fail here, and the near one does", locals(0, 9) + " near", "", false, "far"},
		{"all fail here, and the near gateway is down", locals(0, 9), "near", false, "far"},
		{"most fail here, and the others are down", locals(0, 8), "near far", false, locals(0, 9)},
		{"most fail here, and the others do", locals(0, 8) + " near far", "", false, locals(0, 9)},
		{"all fail", locals(0, 9) + " near far", "", false, locals(0, 9)},
		{"the gateways are down", "", "near far", false, locals(0, 9)},
	} {
		s := service("shop", cart.Hostname, "10.96.0.1")
		preference(mesh.BalanceFailover, mesh.ScopeNetwork, mesh.ScopeRegion)(s)
		d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{cart: s}}
		gates := map[string]mesh.GatewayAddress{}
		for i, name := range append(strings.Fields(locals(0, 9)), "near", "far") {
			w := workload(i)
			w.UID, w.Locality.Region, w.Services = name, "r1", map[mesh.ServiceKey][]mesh.Port{cart: {{Service: 80, Target: 8080}}}
			if i >= 9 {
				w.Network, w.Addresses, w.NetworkGateway = name, nil, &mesh.GatewayAddress{Port: uint16(15008 + i)}
				gates[name] = *w.NetworkGateway
			}
			if name == "far" {
				w.Locality.Region = "r2"
			}
			d.Workloads[w.UID] = w
		}
		want := Want{Network: "east", Client: workload(99), Port: 80, Ejected: out(strings.Fields(tc.ejected)...)}
		want.Client.Locality.Region = "r1"
		want.Ejected.Gateways = map[mesh.GatewayAddress]struct{}{}
		for _, name := range strings.Fields(tc.down) {
			want.Ejected.Gateways[gates[name]] = struct{}{}
		}
		if tc.again {
			want.Avoid = out("somebody")
		}
		v := NewLive().Apply(d)
		want.Service = v.Service(cart)
		seen := map[string]struct{}{}
		for at := range uint64(20) {
			want.Random = func(n uint64) uint64 { return min(at, n-1) }
			if e, ok := Pick(v, want); ok {
				seen[e.Workload.UID] = struct{}{}
			}
		}
		if got := strings.Join(slices.Sorted(maps.Keys(seen)), " "); got != tc.picks {
			t.Errorf("%s: picked %q, want %q", tc.name, got, tc.picks)
		}
	}
}

func TestPickReachesExactlyTheRightEndpoints(t *testing.T) {
	near := func(name string, change func(*mesh.Workload)) *mesh.Workload {
		w := workload(len(name))
		w.UID, w.Node, w.Locality = name, "n1", mesh.Locality{Region: "r1", Zone: "z1"}
		w.Services = map[mesh.ServiceKey][]mesh.Port{cart: {{Service: 80, Target: 8080}}}
		change(w)
		return w
	}
	remote := func(w *mesh.Workload) {
		w.Network, w.Addresses, w.Node, w.Locality, w.Capacity = "west", nil, "", mesh.Locality{}, 5
		w.NetworkGateway = &mesh.GatewayAddress{Port: 15008}
	}
	local := near("local", func(*mesh.Workload) {})
	zone2 := near("zone2", func(w *mesh.Workload) { w.Locality.Zone, w.Node = "z2", "n2" })
	sick := near("sick", func(w *mesh.Workload) { w.Unhealthy = true })
	west := near("west", remote)
	all := []*mesh.Workload{local, zone2, sick, west}
	more := near("more", func(w *mesh.Workload) {
		remote(w)
		w.Services = map[mesh.ServiceKey][]mesh.Port{cart: {{Service: 80, Target: 8080}, {Service: 81}}}
	})
	port81 := func(target uint16) func(*mesh.Service) {
		return func(s *mesh.Service) { s.Ports = append(slices.Clone(s.Ports), mesh.Port{Service: 81, Target: target}) }
	}
	ask81 := func(w *Want) { w.Port = 81 }

	for _, tc := range []struct {
		name  string
		among []*mesh.Workload
		svc   func(*mesh.Service)
		want  func(*Want)
		picks []string
	}{
		{"spread uses all healthy ones", all, nil, nil, []string{"local", "west", "zone2"}},
		{"unhealthy when allowed", all, func(s *mesh.Service) { s.Balance.AllowUnhealthy = true }, nil, []string{"local", "sick", "west", "zone2"}},
		{"avoid", all, nil, func(w *Want) { w.Avoid = out("west", "local") }, []string{"zone2"}},
		{"all avoided", []*mesh.Workload{local}, nil, func(w *Want) { w.Avoid = out("local") }, nil},
		{"ejected", all, nil, func(w *Want) { w.Ejected = out("zone2", "local") }, []string{"west"}},
		{"all but one ejected, and that one avoided", all, nil, func(w *Want) { w.Ejected, w.Avoid = out("west", "local"), out("zone2") }, []string{"local", "west"}},
		{"all ejected is as none", all, nil, func(w *Want) { w.Ejected = out("west", "local", "zone2") }, []string{"local", "west", "zone2"}},
		{"the gateway is ejected", all, nil, func(w *Want) { w.Ejected.Gateways = map[mesh.GatewayAddress]struct{}{{Port: 15008}: {}} }, []string{"local", "zone2"}},
		{"the gateway is avoided", []*mesh.Workload{west}, nil, func(w *Want) { w.Avoid.Gateways = map[mesh.GatewayAddress]struct{}{{Port: 15008}: {}} }, nil},
		{"ejection makes room for a lower rank", all, preference(mesh.BalanceFailover, mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone), func(w *Want) { w.Ejected = out("local") }, []string{"zone2"}},
		{"ejection never lifts what a strict preference forbids", all, preference(mesh.BalanceStrict, mesh.ScopeZone), func(w *Want) { w.Ejected = out("local") }, []string{"local"}},
		{"local only", all, nil, func(w *Want) { w.LocalOnly = true }, []string{"local", "zone2"}},
		{"failover takes the longest match", all, preference(mesh.BalanceFailover, mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone), nil, []string{"local"}},
		{"failover to the other zone", []*mesh.Workload{zone2, sick, west}, preference(mesh.BalanceFailover, mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone), nil, []string{"zone2"}},
		{"failover to the other network", []*mesh.Workload{sick, west}, preference(mesh.BalanceFailover, mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone), nil, []string{"west"}},
		{
			"own network outranks a remote one that matches all else",
			[]*mesh.Workload{
				near("far", func(w *mesh.Workload) { w.Locality = mesh.Locality{Region: "r9", Zone: "z9"} }),
				near("close", func(w *mesh.Workload) {
					w.Network, w.NetworkGateway = "west", &mesh.GatewayAddress{Port: 15008}
				}),
			},
			preference(mesh.BalanceFailover, mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone), nil, []string{"far"},
		},
		{"failover with nothing that matches uses all", all, preference(mesh.BalanceFailover, mesh.ScopeNode), func(w *Want) { w.Client = nil }, []string{"local", "west", "zone2"}},
		{"strict on the node", all, preference(mesh.BalanceStrict, mesh.ScopeNode), nil, []string{"local"}},
		{
			"strict on the node, and another cluster on the same network has one of that name",
			append(slices.Clone(all), near("namesake", func(w *mesh.Workload) { w.Cluster = "other" })), preference(mesh.BalanceStrict, mesh.ScopeNode), nil, []string{"local"},
		},
		{"strict with none", []*mesh.Workload{zone2, west}, preference(mesh.BalanceStrict, mesh.ScopeNode), nil, nil},
		{"a port of some definitions only leads where it is named", append(slices.Clone(all), more), port81(0), ask81, []string{"more"}},
		{"a port of all definitions leads everywhere", append(slices.Clone(all), more), port81(8081), ask81, []string{"local", "more", "west", "zone2"}},
		{"no such port", all, nil, func(w *Want) { w.Port = 81 }, nil},
		{"remote without gateway", []*mesh.Workload{near("lost", func(w *mesh.Workload) { remote(w); w.NetworkGateway = nil })}, nil, nil, nil},
		{"own network without address", []*mesh.Workload{near("empty", func(w *mesh.Workload) { w.Addresses = nil })}, nil, nil, nil},
		{"own network by hostname", []*mesh.Workload{near("named", func(w *mesh.Workload) { w.Addresses, w.Hostname = nil, "x.example" })}, nil, nil, []string{"named"}},
		{"named port missing on the pod", []*mesh.Workload{near("bare", func(w *mesh.Workload) { w.Services[cart] = nil })}, func(s *mesh.Service) { s.Ports[0].Target = 0 }, nil, nil},
		{"wrong family", all, func(s *mesh.Service) { s.Families = mesh.FamiliesIPv6 }, nil, []string{"west"}},
		{"zero capacity is not picked beside others", []*mesh.Workload{local, near("zero", func(w *mesh.Workload) { w.Capacity = 0 })}, nil, nil, []string{"local"}},
		{"zero capacity alone is", []*mesh.Workload{near("zero", func(w *mesh.Workload) { w.Capacity = 0 })}, nil, nil, []string{"zero"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := service("shop", cart.Hostname, "10.96.0.1")
			if tc.svc != nil {
				tc.svc(s)
			}
			d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{cart: s}}
			for _, w := range tc.among {
				d.Workloads[w.UID] = w
			}
			v := NewLive().Apply(d)
			rng := rand.New(rand.NewPCG(7, 7))
			want := Want{Network: "east", Client: local, Service: s, Port: 80, Random: rng.Uint64N}
			if tc.want != nil {
				tc.want(&want)
			}
			got := map[string]bool{}
			for range 200 {
				if e, ok := Pick(v, want); ok {
					got[e.Workload.UID] = true
				}
			}
			var names []string
			for name := range got {
				names = append(names, name)
			}
			slices.Sort(names)
			if !slices.Equal(names, tc.picks) {
				t.Errorf("picked %v, want %v", names, tc.picks)
			}
		})
	}
}

func preference(mode mesh.BalanceMode, scopes ...mesh.Scope) func(*mesh.Service) {
	return func(s *mesh.Service) { s.Balance = mesh.LoadBalancing{Mode: mode, Preference: scopes} }
}

// An endpoint that failed others lately is one that a retry would find.
func TestEjectedEndpointsAreOthers(t *testing.T) {
	s := service("shop", cart.Hostname, "10.96.0.1")
	one, two := workload(1), workload(2)
	v := NewLive().Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{one.UID: one, two.UID: two}})
	for _, avoid := range []bool{false, true} {
		want := Want{Network: "east", Service: s, Port: 80, Random: func(uint64) uint64 { return 0 }}
		want.Ejected.Endpoints = map[string]struct{}{one.UID: {}}
		if avoid {
			want.Avoid.Endpoints = want.Ejected.Endpoints
		}
		if e, ok := Pick(v, want); !ok || e.Workload != two || e.Others == avoid {
			t.Errorf("tried before %t: picked %+v", avoid, e)
		}
	}
}

// TestOthersHaveAWay: what is behind a gateway that nobody knows is nothing that a retry would find.
func TestOthersHaveAWay(t *testing.T) {
	front := mesh.ServiceKey{Namespace: "edge", Hostname: "gateway.edge.svc.cluster.local"}
	remote := func(at mesh.GatewayAddress) func(*mesh.Workload) {
		return func(w *mesh.Workload) {
			w.Network, w.Addresses, w.NetworkGateway = "west", nil, &at
		}
	}
	at := func(network, addr string) mesh.GatewayAddress {
		return mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: network, Addr: netip.MustParseAddr(addr)}}
	}
	gateway := func(change func(*mesh.Workload)) func(*mesh.Workload) {
		return func(w *mesh.Workload) {
			w.Network, w.Services = "west", map[mesh.ServiceKey][]mesh.Port{front: {{Service: 15008, Target: 15008}}}
			change(w)
		}
	}
	as := func(addr string) func(*mesh.Workload) {
		return func(w *mesh.Workload) { w.Addresses = []netip.Addr{netip.MustParseAddr(addr)} }
	}
	named := func(w *mesh.Workload) {
		w.Addresses, w.Namespace, w.Hostname, w.Services = nil, front.Namespace, front.Hostname, nil
	}
	byName := mesh.GatewayAddress{Hostname: front}
	for _, tc := range []struct {
		name    string
		more    []func(*mesh.Workload) // workloads besides the one that is picked
		service bool                   // whether the gateway is a service
		avoid   Out
		others  bool
	}{
		{"nobody", nil, false, Out{}, false},
		{"one of the same network", []func(*mesh.Workload){func(*mesh.Workload) {}}, false, Out{}, true},
		{"one of the same network, tried", []func(*mesh.Workload){func(*mesh.Workload) {}}, false, out("w1"), false},
		{"behind a gateway that is not known", []func(*mesh.Workload){remote(at("west", "192.0.2.1"))}, false, Out{}, false},
		{"behind a gateway that is known", []func(*mesh.Workload){remote(at("west", "192.0.2.1")), gateway(as("192.0.2.1"))}, false, Out{}, true},
		{"behind one that is not known by name", []func(*mesh.Workload){remote(byName)}, false, Out{}, false},
		{"behind one that is known by name", []func(*mesh.Workload){remote(byName), gateway(named)}, false, Out{}, true},
		{"behind a service without endpoints", []func(*mesh.Workload){remote(byName)}, true, Out{}, false},
		{"behind a service's VIP without endpoints", []func(*mesh.Workload){remote(at("west", "10.97.0.1"))}, true, Out{}, false},
		{"behind a service", []func(*mesh.Workload){remote(byName), gateway(as("192.0.2.1"))}, true, Out{}, true},
		{"behind a service's VIP", []func(*mesh.Workload){remote(at("west", "10.97.0.1")), gateway(as("192.0.2.1"))}, true, Out{}, true},
		{"behind a service whose endpoint was tried", []func(*mesh.Workload){remote(byName), gateway(as("192.0.2.1"))}, true, out("w2"), false},
		{"behind a service whose endpoint is not ready", []func(*mesh.Workload){
			remote(byName), gateway(func(w *mesh.Workload) { as("192.0.2.1")(w); w.Unhealthy = true }),
		}, true, Out{}, false},
	} {
		d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{cart: service("shop", cart.Hostname, "10.96.0.1")}}
		if tc.service {
			s := service(front.Namespace, front.Hostname, "")
			s.Ports, s.Addresses = []mesh.Port{{Service: 15008, Target: 15008}}, []mesh.NetworkAddress{{Network: "west", Addr: netip.MustParseAddr("10.97.0.1")}}
			d.Services[front] = s
		}
		for i, change := range append([]func(*mesh.Workload){func(*mesh.Workload) {}}, tc.more...) {
			w := workload(i)
			w.UID = "w" + strconv.Itoa(i)
			change(w)
			d.Workloads[w.UID] = w
		}
		v := NewLive().Apply(d)
		e, ok := Pick(v, Want{Network: "east", Service: v.Service(cart), Port: 80, Avoid: tc.avoid, Random: func(uint64) uint64 { return 0 }})
		if !ok || e.Workload.UID != "w0" || e.Others != tc.others {
			t.Errorf("%s: picked %v, others %v, want %v", tc.name, e.Workload, e.Others, tc.others)
		}
	}
}

func TestPickIsWeightedByCapacity(t *testing.T) {
	s := service("shop", cart.Hostname, "10.96.0.1")
	one, three := workload(1), workload(2)
	three.Capacity = 3
	v := NewLive().Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{one.UID: one, three.UID: three}})
	counts := map[string]int{}
	for i := range uint64(4000) {
		e, ok := Pick(v, Want{Network: "east", Service: s, Port: 80, Random: func(n uint64) uint64 { return i % n }})
		if !ok || e.Port.Target != 8080 || e.Addr != e.Workload.Addresses[0] || !e.Others {
			t.Fatalf("picked %+v", e)
		}
		counts[e.Workload.UID]++
	}
	if counts[one.UID] != 1000 || counts[three.UID] != 3000 {
		t.Errorf("picked %v, want 1000 and 3000", counts)
	}
}

func TestAddressPrefersTheDialledFamily(t *testing.T) {
	w := &mesh.Workload{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	for _, tc := range []struct {
		families mesh.Families
		ipv6     bool
		want     string
	}{
		{mesh.FamiliesAny, false, "10.0.0.1"},
		{mesh.FamiliesAny, true, "fd00::1"},
		{mesh.FamiliesIPv4, true, "10.0.0.1"},
		{mesh.FamiliesIPv6, false, "fd00::1"},
		{mesh.FamiliesDual, true, "fd00::1"},
	} {
		if got, ok := Address(w, tc.families, tc.ipv6); !ok || got.String() != tc.want {
			t.Errorf("families %d, IPv6 %v: %v", tc.families, tc.ipv6, got)
		}
	}
}
