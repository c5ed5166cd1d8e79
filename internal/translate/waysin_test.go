// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// tunnels is a Gateway that wants to be a way in.
func tunnels(k world.Key, created int64, address string) *world.Gateway {
	g := &world.Gateway{Key: k, Class: ClassEastWest, Created: created, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE, HasTLS: true, TLSMode: tlsTerminate}}}
	if address != "" {
		g.Status = []world.GatewayAddress{{Type: addressIP, Value: address}}
	}
	return g
}

// weights sums up what the workloads weigh that stand for a service behind Gateways of a namespace, and counts them.
func weights(o Output, hostname, namespace string) (sum, count int) {
	for uid, w := range o.Mesh.Workloads {
		if strings.Contains(uid, "/SplitHorizonWorkload/"+namespace+"/") && strings.HasSuffix(uid, "/"+hostname) {
			sum, count = sum+int(w.Capacity), count+1
		}
	}
	return sum, count
}

// TestManyGatewaysOverOnePod: Gateways that lead to the same pod take together what one would, however many there are and although they may be ways in.
func TestManyGatewaysOverOnePod(t *testing.T) {
	west := func(namespace, name string) world.Key {
		return world.Key{Cluster: "west", Namespace: namespace, Name: name}
	}
	lead := func(d world.Delta, namespace, name, pod, at string) {
		g := tunnels(west(namespace, name), 1, at)
		g.Addresses = []world.GatewayAddress{{Type: addressHostname, Value: name}}
		d.Put(&world.Pod{Key: west(namespace, pod), Ready: true, Addresses: []netip.Addr{netip.MustParseAddr("10.250.0.1")}})
		d.Put(&world.Service{Key: west(namespace, name), Ports: []world.ServicePort{{Name: "mesh", Port: 15008}}})
		d.Put(&world.EndpointSlice{Key: west(namespace, name), Service: name, Ports: []world.EndpointPort{{Name: "mesh", Port: 15008}}, Endpoints: []world.Endpoint{{Pod: pod, Ready: true}}})
		d.Put(g)
	}
	for _, label := range []string{"", "true"} {
		d := large(4)
		lead(d, "isthmus-system", "gw", "gw-1", "203.0.113.9")
		d.Put(&world.Namespace{Key: west("", "tenant"), Labels: map[string]string{world.LabelEastWestGateways: label}})
		for i := range maxWaysIn - 1 {
			lead(d, "tenant", fmt.Sprint("g", i), "one", fmt.Sprintf("10.200.0.%d", i+1))
		}
		e := NewEngine(testConfig)
		e.Apply(d)
		const service = "s0.demo.svc.cluster.local"
		front, _ := weights(e.Output(), service, "isthmus-system")
		theirs, _ := weights(e.Output(), service, "tenant")
		want := map[string]int{"": 0, "true": 50}[label]
		if front != 100-want || theirs != want {
			t.Errorf("label %q: of 100 pods the front stands for %d and the %d Gateways with one pod for %d, want %d", label, front, maxWaysIn-1, theirs, want)
		}
	}
}

// TestTooManyWaysIn: of a network with more Gateways than may lead into it those count that are of the system namespace, and then the oldest. The others say so on both sides.
func TestTooManyWaysIn(t *testing.T) {
	const more = 6
	apply := agreeing(t)
	d := large(2)
	for _, c := range []world.Cluster{"east", "west"} {
		d.Put(&world.GatewayClass{Key: world.Key{Cluster: c, Name: ClassEastWest}, Controller: ControllerName})
		d.Put(&world.Namespace{Key: world.Key{Cluster: c, Name: "edge"}, Labels: map[string]string{world.LabelEastWestGateways: "true"}})
		for i := range maxWaysIn + more - 1 { // beside the one of the system namespace
			d.Put(tunnels(world.Key{Cluster: c, Namespace: "edge", Name: fmt.Sprint("g", i)}, int64(1000-i), fmt.Sprintf("203.0.114.%d", i+1)))
		}
	}
	d.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: "west"}, ID: "west", MaxServices: 100, MaxEndpoints: 1000})
	check := func(o Output, refused int) {
		t.Helper()
		if _, n := weights(o, "s0.demo.svc.cluster.local", "edge"); n != maxWaysIn-1 {
			t.Errorf("%d Gateways of west are used beside the one of its system namespace, want %d", n, maxWaysIn-1)
		}
		if _, n := weights(o, "s0.demo.svc.cluster.local", "isthmus-system"); n != 1 {
			t.Error("the Gateway of the system namespace is not used")
		}
		if got := o.Remotes["west"]; got.CrowdedDoors != refused || refused > 0 != strings.Contains(got.Refused(), "come after the 64") {
			t.Errorf("%d addresses of west are too many, want %d: %s", got.CrowdedDoors, refused, got.Refused())
		}
		told := 0
		for i := range maxWaysIn + more - 1 {
			k := world.Key{Cluster: "east", Namespace: "edge", Name: fmt.Sprint("g", i)}
			g := o.Mesh.Gateways[mesh.GatewayKey{Namespace: k.Namespace, Name: k.Name}]
			if g != nil && len(g.Exports) > 0 {
				told++
			}
			young := i < refused // the youngest
			if got := reasonOf(o, k); young != (got == ReasonTooManyWaysIn) {
				t.Errorf("%s says %q, and is too many: %v", k, got, young)
			}
		}
		if want := maxWaysIn - 1; told != want {
			t.Errorf("%d Gateways of edge are told exports, want %d", told, want)
		}
	}
	check(apply(d), more)
	d = world.NewDelta()
	for _, c := range []world.Cluster{"east", "west"} {
		for i := range more {
			d.Delete(world.ObjectRef{Kind: world.KindGateway, Key: world.Key{Cluster: c, Namespace: "edge", Name: fmt.Sprint("g", i)}})
		}
	}
	check(apply(d), 0)
}

// TestBrokenWayInBesideTooMany: where tunnels end at a broken Gateway of our own is where they ended last, as long as it is not one too many by what there is now. One before it that is broken, too,
// keeps its place.
func TestBrokenWayInBesideTooMany(t *testing.T) {
	gate := func(i int, mode string) *world.Gateway {
		g := tunnels(world.Key{Cluster: "east", Namespace: "edge", Name: fmt.Sprint("g", i)}, int64(i+1), fmt.Sprintf("203.0.114.%d", i+1))
		g.Network, g.Listeners[0].TLSMode = "dmz", mode
		return g
	}
	last := gate(maxWaysIn, tlsPassthrough)
	apply := agreeing(t)
	check := func(what string, d world.Delta, want bool) {
		t.Helper()
		if got := apply(d).Mesh.Workloads["NetworkGateway/dmz/"+last.Status[0].Value+"/15008"] != nil; got != want {
			t.Errorf("%s: the broken Gateway is a way in: %v, want %v", what, got, want)
		}
	}
	d := large(2)
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
	d.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "edge"}, Labels: map[string]string{world.LabelEastWestGateways: "true", world.LabelNetwork: "dmz"}})
	d.Put(&world.Service{Key: last.Key, Labels: map[string]string{LabelManagedBy: ManagedBy, LabelGatewayName: last.Name}, Ports: []world.ServicePort{{Name: "mesh", Port: 15008}}})
	for i := range maxWaysIn {
		d.Put(gate(i, tlsTerminate))
	}
	d.Put(last)
	check("as one too many", d, false)
	d = world.NewDelta()
	d.Put(gate(0, tlsPassthrough))
	check("beside a broken one", d, false)
	d = world.NewDelta()
	d.Delete(gate(0, "").Ref())
	check("when there is room", d, true)
}

// reasonOf is why the first listener of a Gateway is not accepted.
func reasonOf(o Output, gateway world.Key) string {
	for _, f := range o.Findings[world.ObjectRef{Kind: world.KindGateway, Key: gateway}] {
		if f.Listener != "" && f.Type == accepted && f.Status == isFalse {
			return f.Reason
		}
	}
	return ""
}
