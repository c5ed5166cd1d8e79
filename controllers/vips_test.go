// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func serviceKey(name string) mesh.ServiceKey {
	return mesh.ServiceKey{Namespace: "ns", Hostname: name + ".ns.svc.cluster.local"}
}

func TestAddressesAreStableAndRest(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a, b := serviceKey("a"), serviceKey("b")
	first, changed, next, _ := leases{}.allocate([]mesh.ServiceKey{a, b}, begin)
	if !changed || !next.IsZero() || len(first) != 2 || first[a].V4 == first[b].V4 {
		t.Fatalf("got %v, changed %v, next %v", first, changed, next)
	}
	if again, changed, _, _ := first.allocate([]mesh.ServiceKey{b, a}, begin); changed || !cmp.Equal(first, again, cmpopts.EquateComparable(netip.Addr{})) {
		t.Fatalf("the same wishes changed %v to %v", first, again)
	}
	gone, _, next, _ := first.allocate([]mesh.ServiceKey{b}, begin)
	if gone[a].Released == nil || !next.Equal(begin.Add(vipRest)) {
		t.Fatalf("got %v, next %v", gone, next)
	}
	back, _, _, _ := gone.allocate([]mesh.ServiceKey{a, b}, begin.Add(vipRest-time.Second))
	if back[a].V4 != first[a].V4 || back[a].Released != nil {
		t.Fatalf("a came back with %v, had %v", back[a], first[a])
	}
	if rested, _, _, _ := gone.allocate([]mesh.ServiceKey{b}, begin.Add(vipRest)); len(rested) != 1 {
		t.Fatalf("after the rest: %v", rested)
	}
}

func TestNoTwoServicesShareAnAddress(t *testing.T) {
	var want []mesh.ServiceKey
	for i := range vipCount + 1 {
		want = append(want, serviceKey(fmt.Sprint("s", i)))
	}
	all, _, _, unserved := leases{}.allocate(want, time.Unix(0, 0))
	used := map[netip.Addr]bool{}
	for k, v := range all {
		if used[v.V4] || used[v.V6] || !vipRange.Contains(v.V4) || !vipRange6.Contains(v.V6) {
			t.Fatalf("%v has %v", k, v)
		}
		used[v.V4], used[v.V6] = true, true
	}
	if len(all) != vipCount || len(unserved) != 1 {
		t.Fatalf("%d served, %d not", len(all), len(unserved))
	}
}

func TestDecodeLeases(t *testing.T) {
	good, _, _, _ := leases{}.allocate([]mesh.ServiceKey{serviceKey("a"), serviceKey("b")}, time.Unix(0, 0))
	data := gather(good.encode())
	if got, err := decodeLeases(data); err != nil || !cmp.Equal(got, good, cmpopts.EquateComparable(netip.Addr{})) {
		t.Fatalf("got %v, %v", got, err)
	}
	taken := data[serviceKey("a").Hostname]
	for name, bad := range map[string]string{
		"no JSON": "{", "no namespace": `{"v4":"240.240.0.1"}`, "outside": `{"namespace":"n","v4":"10.0.0.1","v6":"fd6d:6573:68f0::1"}`,
		"twin": taken, "unlike pair": `{"namespace":"n","v4":"240.240.0.9","v6":"fd6d:6573:68f0::8"}`,
	} {
		data["z"] = bad
		if got, err := decodeLeases(data); err == nil || len(got) != 2 {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// TestShards demands that all addresses fit into the ConfigMaps even with the longest names, and that entries move out of the one
// ConfigMap that there once was without being lost on the way.
func TestShards(t *testing.T) {
	long := strings.Repeat("n", 63)
	var want []mesh.ServiceKey
	for i := range vipCount {
		name := fmt.Sprintf("%063d", i)
		want = append(want, mesh.ServiceKey{Namespace: long, Hostname: name + "." + long + ".svc.cluster.local"})
	}
	all, _, _, unserved := leases{}.allocate(want, time.Unix(0, 0))
	if len(unserved) > 0 {
		t.Fatalf("%d services have no address", len(unserved))
	}
	for k, v := range all {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		v.Released = &at
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
	if got, err := decodeLeases(gather(shards)); err != nil || len(got) != vipCount || total != vipCount {
		t.Fatalf("%d of %d leases came back, %v", len(got), total, err)
	}

	few, _, _, _ := leases{}.allocate(want[:40], time.Unix(0, 0))
	once := [vipShards]map[string]string{gather(few.encode())} // all in the first
	moving := few.encode()
	moving[0] = once[0] // the others are written, the first is not yet
	for name, shards := range map[string][vipShards]map[string]string{"once": once, "moving": moving, "moved": few.encode()} {
		if got, err := decodeLeases(gather(shards)); err != nil || !cmp.Equal(got, few, cmpopts.EquateComparable(netip.Addr{})) {
			t.Errorf("%s: got %d leases, %v", name, len(got), err)
		}
	}
}

func TestLostLeasesAreRestored(t *testing.T) {
	all, _, _, _ := leases{}.allocate([]mesh.ServiceKey{serviceKey("a"), serviceKey("b"), serviceKey("c")}, time.Unix(0, 0))
	current := leases{serviceKey("a"): all[serviceKey("a")], serviceKey("other"): {Namespace: "ns", V4: all[serviceKey("b")].V4}}
	restore(current, all)
	if _, taken := current[serviceKey("b")]; len(current) != 3 || taken || current[serviceKey("c")] != all[serviceKey("c")] {
		t.Fatalf("got %v", current)
	}
}

func FuzzDecodeLeases(f *testing.F) {
	f.Add("h", `{"namespace":"n","v4":"240.240.0.9","v6":"fd6d:6573:68f0::9"}`, "g", "{}")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		got, _ := decodeLeases(map[string]string{k1: v1, k2: v2})
		used := map[netip.Addr]bool{}
		for _, l := range got {
			if used[l.V4] || !vipRange.Contains(l.V4) {
				t.Fatalf("%v", got)
			}
			used[l.V4] = true
		}
	})
}
