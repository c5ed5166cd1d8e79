// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

func serviceKey(name string) mesh.ServiceKey {
	return mesh.ServiceKey{Namespace: "ns", Hostname: name + ".ns.svc.cluster.local"}
}

func TestAddressesAreStableAndRest(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a, b := serviceKey("a"), serviceKey("b")
	give := func(l leases, now time.Time, services ...mesh.ServiceKey) given {
		return giving{want: wishes(services...), now: now}.to(l)
	}
	out := give(leases{}, begin, a, b)
	first := out.leases
	if !out.next.IsZero() || len(first) != 2 || first[a].V4 == first[b].V4 {
		t.Fatalf("got %v, next %v", first, out.next)
	}
	if again := give(first, begin, b, a).leases; !cmp.Equal(first, again, cmpopts.EquateComparable(netip.Addr{})) {
		t.Fatalf("the same wishes changed %v to %v", first, again)
	}
	out = give(first, begin, b)
	gone := out.leases
	if gone[a].Released == nil || !out.next.Equal(begin.Add(vipRest)) {
		t.Fatalf("got %v, next %v", gone, out.next)
	}
	back := give(gone, begin.Add(vipRest-time.Second), a, b).leases
	if back[a].V4 != first[a].V4 || back[a].Released != nil {
		t.Fatalf("a came back with %v, had %v", back[a], first[a])
	}
	if rested := give(gone, begin.Add(vipRest), b).leases; len(rested) != 1 {
		t.Fatalf("after the rest: %v", rested)
	}
}

// An address that was released by a leader whose clock was ahead rests as long as any other.
func TestAddressesRestByTheClockOfWhoLeads(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a := serviceKey("a")
	all := giving{want: wishes(a), now: begin}.to(leases{}).leases
	all = giving{now: begin.AddDate(10, 0, 0)}.to(all).leases
	out := giving{now: begin}.to(all)
	if !out.next.Equal(begin.Add(vipRest)) {
		t.Errorf("it is looked at again at %v, want %v", out.next, begin.Add(vipRest))
	}
	if rested := (giving{now: begin.Add(vipRest)}).to(out.leases).leases; len(rested) != 0 {
		t.Errorf("after the rest: %v", rested)
	}
	// A difference as clocks have it has nothing written.
	soon := giving{now: begin.Add(clockSlack / 2)}.to(giving{want: wishes(a), now: begin}.to(leases{}).leases).leases
	if again := (giving{now: begin}).to(soon).leases; !cmp.Equal(soon, again, cmpopts.EquateComparable(netip.Addr{})) {
		t.Errorf("%v became %v", soon, again)
	}
}

// wishes are services that one cluster has.
func wishes(services ...mesh.ServiceKey) map[mesh.ServiceKey][]world.Cluster {
	out := map[mesh.ServiceKey][]world.Cluster{}
	for _, k := range services {
		out[k] = []world.Cluster{"far"}
	}
	return out
}

// manyWishes are more services of each of some clusters than there are addresses.
func manyWishes(clusters int, name func(cluster, i int) mesh.ServiceKey) map[mesh.ServiceKey][]world.Cluster {
	out := map[mesh.ServiceKey][]world.Cluster{}
	for c := range clusters {
		for i := range vipCount >> c {
			out[name(c, i)] = []world.Cluster{world.Cluster(fmt.Sprint("far", c))}
		}
	}
	return out
}

func TestNoTwoServicesShareAnAddress(t *testing.T) {
	want := manyWishes(20, func(c, i int) mesh.ServiceKey { return serviceKey(fmt.Sprint("s", c, "-", i)) })
	out := giving{want: want}.to(leases{})
	all := out.leases
	used := map[netip.Addr]bool{}
	for k, v := range all {
		if used[v.V4] || used[v.V6] || !vipRange.Contains(v.V4) || !vipRange6.Contains(v.V6) {
			t.Fatalf("%v has %v", k, v)
		}
		used[v.V4], used[v.V6] = true, true
	}
	refused := 0
	for _, n := range out.unserved {
		refused += n
	}
	if len(all) < vipCount*9/10 || len(all)+refused != len(want) {
		t.Fatalf("%d served, %d not, of %d", len(all), refused, len(want))
	}
}

// TestAClusterLeavesAddressesToOthers: one that has ever new services uses up what is its own, with what rests after they went away, and another one's services
// have addresses all the same.
func TestAClusterLeavesAddressesToOthers(t *testing.T) {
	all, now := leases{}, time.Unix(0, 0)
	for round := range 40 {
		want := map[mesh.ServiceKey][]world.Cluster{}
		for i := range 3000 {
			want[serviceKey(fmt.Sprint("new-", round, "-", i))] = []world.Cluster{"hostile"}
		}
		now = now.Add(time.Minute)
		all = giving{want: want, now: now}.to(all).leases
	}
	honest := map[mesh.ServiceKey][]world.Cluster{}
	for i := range 10000 {
		honest[serviceKey(fmt.Sprint("s", i))] = []world.Cluster{"honest"}
	}
	honest[serviceKey("new-40-0")] = []world.Cluster{"hostile"}
	after := giving{want: honest, now: now}.to(all)
	if len(all) != vipMost || len(after.leases) != len(all)+10000 || after.unserved["hostile"] != 1 || len(after.unserved) != 1 {
		t.Errorf("%d addresses after the flood, %d in all; without one: %v", len(all), len(after.leases), after.unserved)
	}
	if later := (giving{want: honest, now: now.Add(vipRest)}).to(after.leases); len(later.leases) != 10001 || len(later.unserved) != 0 {
		t.Errorf("%d addresses when those of the flood have rested, without one: %v", len(later.leases), later.unserved)
	}
}

// signed are ConfigMaps as a leader writes them.
func signed(data [vipShards]map[string]string) *vipMaps {
	m := &vipMaps{}
	for i := range m {
		m[i] = &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: shardName(i), ResourceVersion: "1", Annotations: map[string]string{vipSumAnnotation: vipSum(data[i])}}, Data: data[i],
		}
	}
	return m
}

func TestWhatIsNoLeaseIsLeftOut(t *testing.T) {
	good := giving{want: wishes(serviceKey("a"), serviceKey("b"))}.to(leases{}).leases
	if got, found := signed(good.encode()).leases(nil); len(found.bad)+len(found.maps) > 0 || !cmp.Equal(got, good, cmpopts.EquateComparable(netip.Addr{})) {
		t.Fatalf("got %v, %v", got, found)
	}
	home := shardOf(good[serviceKey("a")].V4)
	taken := good.encode()[home][serviceKey("a").Hostname]
	for name, bad := range map[string]string{
		"no JSON": "{", "no namespace": `{"v4":"240.240.0.1"}`, "outside": `{"namespace":"n","v4":"10.0.0.1","v6":"fd6d:6573:68f0::1"}`,
		"twin": taken, "unlike pair": `{"namespace":"n","v4":"240.240.0.9","v6":"fd6d:6573:68f0::8"}`,
	} {
		m := signed(good.encode())
		m[home].Data["z"] = bad
		if got, found := m.leases(nil); len(found.bad) != 1 || len(found.maps) != 1 || len(got) != 2 {
			t.Errorf("%s: got %v, %v", name, got, found)
		}
	}
}

// TestShards demands that all addresses fit into the ConfigMaps even with the longest names, and that entries move out of the one
// ConfigMap that there once was without being lost on the way.
func TestShards(t *testing.T) {
	long := strings.Repeat("n", 63)
	name := func(c, i int) mesh.ServiceKey {
		return mesh.ServiceKey{Namespace: long, Hostname: fmt.Sprintf("%03d%060d", c, i) + "." + long + ".svc.cluster.local"}
	}
	all := giving{want: manyWishes(20, name)}.to(leases{}).leases
	for k, v := range all {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		v.Released, v.By = &at, strings.Repeat("abcd", maxExporters)
		all[k] = v
	}
	shards := all.encode()
	total := 0
	for i, data := range shards {
		size := 0
		for k, v := range data {
			size += len(k) + len(v)
		}
		if size > 1<<20 {
			t.Errorf("%s has %d bytes; a ConfigMap takes 1 MiB", shardName(i), size)
		}
		total += len(data)
	}
	if got, found := signed(shards).leases(nil); len(found.bad) > 0 || len(got) != len(all) || total != len(all) || total < vipCount*9/10 {
		t.Fatalf("%d of %d leases came back, %v", len(got), total, found)
	}

	var some []mesh.ServiceKey
	for i := range 40 {
		some = append(some, name(0, i))
	}
	few := giving{want: wishes(some...)}.to(leases{}).leases
	var once [vipShards]map[string]string // all in the first
	once[0] = map[string]string{}
	for _, data := range few.encode() {
		maps.Copy(once[0], data)
	}
	moving := few.encode()
	moving[0] = once[0] // the others are written, the first is not yet
	for name, shards := range map[string][vipShards]map[string]string{"once": once, "moving": moving, "moved": few.encode()} {
		m := signed(shards)
		m[0].Annotations = nil // that version did not sign
		if got, found := m.leases(nil); len(found.bad)+len(found.maps) > 0 || !cmp.Equal(got, few, cmpopts.EquateComparable(netip.Addr{})) {
			t.Errorf("%s: got %d leases, %v", name, len(got), found)
		}
	}
}

// TestDamagedAddressesAreRemembered: what this process knew is in use, and what somebody wrote over it does not change it. What a leader
// wrote does.
func TestDamagedAddressesAreRemembered(t *testing.T) {
	a, b := serviceKey("a"), serviceKey("b")
	all := giving{want: wishes(a, b)}.to(leases{}).leases
	home := shardOf(all[a].V4)
	other := leases{a: {Namespace: "ns", V4: vipAt(vipRange, uint16(home+vipShards*7)), V6: vipAt(vipRange6, uint16(home+vipShards*7))}, b: all[b]}
	for _, tc := range []struct {
		name     string
		damage   func(*vipMaps)
		want     leases
		restored int
	}{
		{"nothing", func(*vipMaps) {}, all, 0},
		{"deleted", func(m *vipMaps) { m[home] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: shardName(home)}} }, all, 1},
		{"emptied", func(m *vipMaps) { m[home].Data = nil }, all, 1},
		{"nonsense", func(m *vipMaps) { m[home].Data = map[string]string{a.Hostname: "?"} }, all, 1},
		{"another address", func(m *vipMaps) { m[home].Data = other.encode()[home] }, all, 1},
		{"another address, and the name of another", func(m *vipMaps) {
			m[home].Data = map[string]string{"x": all.encode()[home][a.Hostname]}
		}, all, 1},
		{"without signature", func(m *vipMaps) { m[home].Annotations = nil }, all, 0},
		{"by a leader", func(m *vipMaps) { *m = *signed(other.encode()) }, other, 0},
	} {
		m := signed(all.encode())
		tc.damage(m)
		got, found := m.leases(all)
		if found.restored != tc.restored || !cmp.Equal(got, tc.want, cmpopts.EquateComparable(netip.Addr{})) {
			t.Errorf("%s: got %v, %v", tc.name, got, found)
		}
	}
}

func FuzzDecodeLeases(f *testing.F) {
	f.Add("h", `{"namespace":"n","v4":"240.240.0.9","v6":"fd6d:6573:68f0::9"}`, "g", "{}")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		var data [vipShards]map[string]string
		data[0], data[9] = map[string]string{k1: v1}, map[string]string{k2: v2}
		m := signed(data)
		m[9].Annotations = nil
		got, _ := m.leases(leases{serviceKey("a"): {Namespace: "ns", V4: vipAt(vipRange, 9), V6: vipAt(vipRange6, 9)}})
		used := map[netip.Addr]bool{}
		for _, l := range got {
			if used[l.V4] || !vipRange.Contains(l.V4) {
				t.Fatalf("%v", got)
			}
			used[l.V4] = true
		}
	})
}
