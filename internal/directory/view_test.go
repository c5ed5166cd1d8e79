// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var cart = mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}

func workload(i int) *mesh.Workload {
	return &mesh.Workload{
		UID: fmt.Sprintf("east//Pod/shop/cart-%d", i), Name: fmt.Sprintf("cart-%d", i), Namespace: "shop", Cluster: "east",
		Network: "east", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, ServiceAccount: "cart",
		TrustDomain: "cluster.local", Capacity: 1, Services: map[mesh.ServiceKey][]mesh.Port{cart: {{Service: 80, Target: 8080}}},
	}
}

func service(namespace, hostname, vip string) *mesh.Service {
	s := &mesh.Service{Namespace: namespace, Name: "cart", Hostname: hostname, Ports: []mesh.Port{{Service: 80, Target: 8080}}}
	if vip != "" {
		s.Addresses = []mesh.NetworkAddress{{Network: "east", Addr: netip.MustParseAddr(vip)}}
	}
	return s
}

func TestViewFindsWhatIsThereAndForgetsWhatLeft(t *testing.T) {
	live := NewLive()
	first := live.Load()
	w := workload(1)
	s := service("shop", cart.Hostname, "10.96.0.1")
	live.Apply(mesh.Delta{
		Workloads: map[string]*mesh.Workload{w.UID: w},
		Services:  map[mesh.ServiceKey]*mesh.Service{cart: s},
		Policies: map[string]*mesh.Policy{
			"":  nil,
			"g": {Name: "g", Scope: mesh.PolicyGlobal},
			"n": {Name: "n", Namespace: "shop", Scope: mesh.PolicyNamespace},
			"o": {Name: "o", Namespace: "other", Scope: mesh.PolicyNamespace},
		},
		Gateways: map[mesh.GatewayKey]*mesh.Gateway{{Namespace: "isthmus-system", Name: "eastwest"}: {}},
	})
	select {
	case <-first.Superseded():
	default:
		t.Error("the first view does not know that it was superseded")
	}
	if first.Workload(w.UID) != nil {
		t.Error("an old view changed")
	}
	v := live.Load()
	if got := v.WorkloadAt("east", w.Addresses[0]); got != w {
		t.Errorf("by address: %v", got)
	}
	if got := v.WorkloadAt("east", netip.AddrFrom16(w.Addresses[0].As16())); got != w {
		t.Errorf("by IPv4-mapped address: %v", got)
	}
	if got := v.WorkloadAt("west", w.Addresses[0]); got != nil {
		t.Errorf("an address of one network was found in another: %v", got)
	}
	if got := v.Pod(PodKey{"east", "shop", "cart-1"}, "cart"); got != w {
		t.Errorf("by pod: %v", got)
	}
	if got := v.Pod(PodKey{"east", "shop", "cart-1"}, "thief"); got != nil {
		t.Errorf("a pod with another service account was found: %v", got)
	}
	if got := v.ServiceAt("east", netip.MustParseAddr("10.96.0.1"), "demo"); got != s {
		t.Errorf("by VIP: %v", got)
	}
	if got := v.ServiceNamed(cart.Hostname, "demo"); got != s {
		t.Errorf("by name: %v", got)
	}
	if got := v.Endpoints(cart); !slices.Equal(got, []*mesh.Workload{w}) {
		t.Errorf("endpoints: %v", got)
	}
	if got := v.PoliciesFor(w); len(got) != 2 || got[0].Name != "g" || got[1].Name != "n" {
		t.Errorf("policies: %v", got)
	}
	if v.Gateway(mesh.GatewayKey{Namespace: "isthmus-system", Name: "eastwest"}) == nil {
		t.Error("the gateway is not found")
	}

	moved := workload(2)
	moved.UID = w.UID
	moved.Services = nil
	v = live.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: moved}, Policies: map[string]*mesh.Policy{"g": nil}})
	if v.WorkloadAt("east", w.Addresses[0]) != nil || v.WorkloadAt("east", moved.Addresses[0]) != moved || len(v.Endpoints(cart)) != 0 {
		t.Error("a changed workload is still found under what it was")
	}
	if got := v.PoliciesFor(w); len(got) != 1 {
		t.Errorf("a removed policy still applies: %v", got)
	}
	v = live.Apply(mesh.Delta{
		Workloads: map[string]*mesh.Workload{w.UID: nil, "never": nil},
		Services:  map[mesh.ServiceKey]*mesh.Service{cart: nil},
	})
	if n, m, _ := v.Counts(); n != 0 || m != 0 || v.ServiceAt("east", netip.MustParseAddr("10.96.0.1"), "") != nil {
		t.Errorf("%d workloads and %d services are left", n, m)
	}
	if live.Apply(mesh.Delta{}) != v {
		t.Error("an empty delta made a new view")
	}
}

func TestServiceChoiceAmongEqualNames(t *testing.T) {
	const host = "api.example"
	own := service("demo", host, "10.96.0.1")
	hidden := service("a-hidden", host, "10.96.0.1")
	hidden.NamespaceOnly = true
	plain := service("b", host, "10.96.0.1")
	canonical := service("c", host, "10.96.0.1")
	canonical.Canonical = true
	for _, tc := range []struct {
		name string
		all  []*mesh.Service
		want *mesh.Service
	}{
		{"own namespace wins", []*mesh.Service{hidden, plain, canonical, own}, own},
		{"then the canonical one", []*mesh.Service{hidden, plain, canonical}, canonical},
		{"then the first visible", []*mesh.Service{hidden, plain}, plain},
		{"hidden is not found", []*mesh.Service{hidden}, nil},
	} {
		live := NewLive()
		d := mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{}}
		for _, s := range tc.all {
			d.Services[s.Key()] = s
		}
		v := live.Apply(d)
		if got := v.ServiceNamed(host, "demo"); got != tc.want {
			t.Errorf("%s: by name %v", tc.name, got)
		}
		if got := v.ServiceAt("east", netip.MustParseAddr("10.96.0.1"), "demo"); got != tc.want {
			t.Errorf("%s: by VIP %v", tc.name, got)
		}
	}
}

// TestIndexesFollowTheSnapshot applies random deltas and compares every answer with what a fresh view of the same snapshot says.
func TestIndexesFollowTheSnapshot(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	live, snapshot := NewLive(), mesh.NewSnapshot()
	keys := []mesh.ServiceKey{cart, {Namespace: "shop", Hostname: "b"}, {Namespace: "demo", Hostname: "b"}}
	for range 500 {
		d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}}
		for range rng.IntN(6) {
			w := workload(rng.IntN(20))
			w.Addresses = append(w.Addresses, netip.AddrFrom4([4]byte{10, 1, 0, byte(rng.IntN(4))}))
			w.Services[keys[rng.IntN(3)]] = nil
			if d.Workloads[w.UID] = w; rng.IntN(3) == 0 {
				d.Workloads[w.UID] = nil
			}
		}
		for range rng.IntN(3) {
			key := keys[rng.IntN(3)]
			if d.Services[key] = service(key.Namespace, key.Hostname, fmt.Sprintf("10.96.0.%d", rng.IntN(3))); rng.IntN(3) == 0 {
				d.Services[key] = nil
			}
		}
		got := live.Apply(d)
		snapshot.Apply(d)
		want := NewLive().Apply(mesh.Delta(snapshot.Clone()))
		if !reflect.DeepEqual(got.Snapshot(), want.Snapshot()) {
			t.Fatal("contents differ")
		}
		for i := range 256 {
			addr := netip.AddrFrom4([4]byte{10, byte(i & 1), 0, byte(i >> 1)})
			if g, w := got.WorkloadAt("east", addr), want.WorkloadAt("east", addr); g != w {
				t.Fatalf("at %v: %v, want %v", addr, g, w)
			}
		}
		for i, key := range keys {
			if !slices.Equal(got.Endpoints(key), want.Endpoints(key)) {
				t.Fatalf("endpoints of %v differ", key)
			}
			vip := netip.AddrFrom4([4]byte{10, 96, 0, byte(i)})
			if g, w := got.ServiceAt("east", vip, "demo"), want.ServiceAt("east", vip, "demo"); g != w {
				t.Fatalf("VIP %v: %v, want %v", vip, g, w)
			}
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	v := bigView(1000)
	addr := netip.AddrFrom4([4]byte{10, 0, 1, 7})
	s := v.Service(cart)
	want := Want{Network: "east", Service: s, Port: 80, Random: func(n uint64) uint64 { return n / 2 }}
	failing := want
	failing.Ejected = out(v.Endpoints(s.Key())[0].UID)
	if n := testing.AllocsPerRun(100, func() {
		v.WorkloadAt("east", addr)
		v.ServiceAt("east", s.Addresses[0].Addr, "demo")
		Pick(v, want)
		Pick(v, failing)
	}); n != 0 {
		t.Errorf("%v allocations for each lookup", n)
	}
}

func bigView(n int) *View {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}}
	for i := range n {
		w := workload(i)
		if i >= 100 {
			w.Services = nil
		}
		d.Workloads[w.UID] = w
	}
	d.Services[cart] = service("shop", cart.Hostname, "10.96.0.1")
	return NewLive().Apply(d)
}

func BenchmarkWorkloadAt(b *testing.B) {
	v := bigView(50000)
	addr := netip.AddrFrom4([4]byte{10, 0, 1, 7})
	b.ReportAllocs()
	for b.Loop() {
		v.WorkloadAt("east", addr)
	}
}

func BenchmarkPickAmong100(b *testing.B) {
	v := bigView(100)
	want := Want{Network: "east", Service: v.Service(cart), Port: 80, Random: rand.Uint64N}
	b.ReportAllocs()
	for b.Loop() {
		Pick(v, want)
	}
}

func BenchmarkApplyOneAmong50000(b *testing.B) {
	live := NewLive()
	live.Apply(mesh.Delta(bigView(50000).Snapshot()))
	w := workload(777)
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{w.UID: w}}
	b.ReportAllocs()
	for b.Loop() {
		live.Apply(d)
	}
}

// TestFormer: what is another one or gone is told, and nothing else.
func TestFormer(t *testing.T) {
	live := NewLive()
	all := map[string]*mesh.Workload{}
	for i := range 1000 {
		uid := fmt.Sprint("w", i)
		all[uid] = &mesh.Workload{UID: uid}
	}
	before := live.Apply(mesh.Delta{Workloads: all})
	after := live.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{"w1": nil, "w2": {UID: "w2", Name: "other"}, "new": {UID: "new"}}})
	var former []string
	for w := range after.Former(before) {
		former = append(former, w.UID)
	}
	slices.Sort(former)
	if !slices.Equal(former, []string{"w1", "w2"}) {
		t.Errorf("former are %v", former)
	}
	for w := range before.Former(before) {
		t.Errorf("%s is former to itself", w.UID)
	}
}

// A node's address belongs to none of its host network pods, although they are found there.
func TestOwnerAt(t *testing.T) {
	node, own := netip.MustParseAddr("192.168.0.10"), netip.MustParseAddr("10.0.0.9")
	live := NewLive()
	all := map[string]*mesh.Workload{}
	for _, w := range []*mesh.Workload{
		{UID: "a", Network: "east", Addresses: []netip.Addr{node}, HostNetwork: true},
		{UID: "b", Network: "east", Addresses: []netip.Addr{own}},
	} {
		all[w.UID] = w
	}
	live.Apply(mesh.Delta{Workloads: all})
	v := live.Load()
	if got := v.OwnerAt("east", node); got != nil {
		t.Errorf("%s owns its node's address", got.UID)
	}
	if v.WorkloadAt("east", node) != all["a"] || v.OwnerAt("east", own) != all["b"] {
		t.Error("not found")
	}
}

// What a workload names applies to it, wherever it is from; what applies to it anyway is not there twice.
func TestPoliciesFor(t *testing.T) {
	policy := func(namespace, name string, scope mesh.PolicyScope) *mesh.Policy {
		return &mesh.Policy{Namespace: namespace, Name: name, Scope: scope}
	}
	d := mesh.Delta{Policies: map[string]*mesh.Policy{}}
	for _, p := range []*mesh.Policy{
		policy("root", "global", mesh.PolicyGlobal), policy("root", "selecting", mesh.PolicyWorkloads), policy("shop", "all", mesh.PolicyNamespace),
		policy("shop", "selecting", mesh.PolicyWorkloads), policy("shop", "unnamed", mesh.PolicyWorkloads), policy("demo", "all", mesh.PolicyNamespace), policy("demo", "unnamed", mesh.PolicyNamespace),
	} {
		d.Policies[p.Key()] = p
	}
	w := &mesh.Workload{Namespace: "shop", Policies: []string{"demo/all", "root/global", "root/selecting", "shop/all", "shop/gone", "shop/selecting"}}
	v := NewLive().Apply(d)
	var got []string
	for _, p := range v.PoliciesFor(w) {
		got = append(got, p.Key())
	}
	if want := []string{"root/global", "shop/all", "demo/all", "root/selecting", "shop/selecting"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, unknown := v.NamedPolicies(w); !slices.Equal(unknown, []string{"shop/gone"}) {
		t.Errorf("unknown are %v", unknown)
	}
}

// Ranges hold what nobody has to itself, the smallest first.
func TestServiceOver(t *testing.T) {
	over := func(namespace string, ranges ...string) *mesh.Service {
		s := service(namespace, "over-"+namespace+".example", "")
		for _, r := range ranges {
			s.Ranges = append(s.Ranges, mesh.NetworkRange{Network: "east", Prefix: netip.MustParsePrefix(r)})
		}
		return s
	}
	wide, narrow, hidden := over("wide", "192.0.0.0/16", "fd00::/8"), over("narrow", "192.0.2.0/24"), over("hidden", "192.0.2.128/25")
	hidden.NamespaceOnly = true
	single := service("single", "single.example", "192.0.2.9")
	node := workload(1)
	node.HostNetwork, node.Addresses = true, []netip.Addr{netip.MustParseAddr("192.0.2.8")}
	live := NewLive()
	v := live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{wide.Key(): wide, narrow.Key(): narrow, hidden.Key(): hidden, single.Key(): single}, Workloads: map[string]*mesh.Workload{node.UID: node}})
	for _, tc := range []struct {
		network, addr, from string
		want                *mesh.Service
	}{
		{"east", "192.0.3.1", "demo", wide},
		{"east", "192.0.2.1", "demo", narrow},
		{"east", "::ffff:192.0.2.1", "demo", narrow},
		{"east", "192.0.2.200", "demo", narrow},
		{"east", "192.0.2.200", "hidden", hidden},
		{"east", "fd12::1", "demo", wide},
		{"east", "192.0.2.9", "demo", nil},
		{"east", "192.0.2.8", "demo", nil},
		{"east", "192.1.2.1", "demo", nil},
		{"west", "192.0.2.1", "demo", nil},
	} {
		if got := v.ServiceOver(tc.network, netip.MustParseAddr(tc.addr), tc.from); got != tc.want {
			t.Errorf("%s in %s for %s: %v", tc.addr, tc.network, tc.from, got)
		}
	}
	v = live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{narrow.Key(): over("narrow", "192.0.4.0/24")}})
	if got := v.ServiceOver("east", netip.MustParseAddr("192.0.2.1"), "demo"); got != wide {
		t.Errorf("after a change: %v", got)
	}
	if n := testing.AllocsPerRun(100, func() { v.ServiceOver("east", netip.MustParseAddr("192.1.2.1"), "demo") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Who connects from a gateway's address and is not that gateway has come through it, whoever else is there.
func TestThrough(t *testing.T) {
	at := func(uid, account string, gateway bool, addr string) *mesh.Workload {
		return &mesh.Workload{UID: uid, Network: "east", Namespace: "infra", ServiceAccount: account, Gateway: gateway, HostNetwork: true, Addresses: []netip.Addr{netip.MustParseAddr(addr)}}
	}
	all := map[string]*mesh.Workload{}
	for _, w := range []*mesh.Workload{
		at("a", "kube-proxy", false, "192.168.0.1"), at("b", "edge", true, "192.168.0.1"), at("c", "west", true, "192.168.0.1"),
		at("d", "edge", true, "192.168.0.2"), at("e", "kube-proxy", false, "192.168.0.3"),
	} {
		all[w.UID] = w
	}
	v := NewLive().Apply(mesh.Delta{Workloads: all})
	for _, tc := range []struct{ addr, account, want string }{
		{"192.168.0.1", "till", "b"}, {"192.168.0.1", "edge", ""}, {"192.168.0.1", "west", ""}, {"192.168.0.1", "kube-proxy", "b"},
		{"192.168.0.2", "till", "d"}, {"::ffff:192.168.0.2", "till", "d"}, {"192.168.0.2", "edge", ""}, {"192.168.0.3", "till", ""}, {"192.168.0.4", "till", ""},
	} {
		got := ""
		if w := v.Through("east", netip.MustParseAddr(tc.addr), func(id mesh.Identity) bool { return id.ServiceAccount == tc.account }); w != nil {
			got = w.UID
		}
		if got != tc.want {
			t.Errorf("%s from %s: through %q, want %q", tc.account, tc.addr, got, tc.want)
		}
	}
}
