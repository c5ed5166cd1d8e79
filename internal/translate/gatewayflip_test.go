// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// leading is Gateways of west that are ways in, by one Service with a number of pods behind it.
func leading(gateways, pods int) world.Delta {
	d := world.NewDelta()
	west := func(name string) world.Key {
		return world.Key{Cluster: "west", Namespace: "isthmus-system", Name: name}
	}
	for i := range gateways {
		g := tunnels(west(fmt.Sprintf("w%02d", i)), 1, fmt.Sprintf("203.0.114.%d", i+1))
		g.Addresses = []world.GatewayAddress{{Type: addressHostname, Value: "front"}}
		d.Put(g)
	}
	d.Put(&world.Service{Key: west("front"), Ports: []world.ServicePort{{Name: "mesh", Port: 15008}}})
	for i := range pods {
		d.Put(frontPod(i, true))
	}
	for at := 0; at < pods; at += 500 {
		e := &world.EndpointSlice{Key: west(fmt.Sprint("front-", at)), Service: "front", Ports: []world.EndpointPort{{Name: "mesh", Port: 15008}}}
		for i := at; i < min(at+500, pods); i++ {
			e.Endpoints = append(e.Endpoints, world.Endpoint{Pod: frontPod(i, true).Name})
		}
		d.Put(e)
	}
	return d
}

func frontPod(n int, ready bool) *world.Pod {
	return &world.Pod{
		Key:  world.Key{Cluster: "west", Namespace: "isthmus-system", Name: fmt.Sprint("front-", n)},
		Node: "n1", ServiceAccount: "front", Ready: ready, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 250, byte(n >> 8), byte(n)})},
	}
}

// relabelledGateway is one of leading that changes in a way that nobody asks about.
func relabelledGateway(i int) world.Delta {
	d := world.NewDelta()
	for k, g := range leading(1, 0).Gateways {
		changed := *g
		changed.Key, changed.Generation = k, int64(i)
		changed.InfraLabels = map[string]string{"i": fmt.Sprint(i)}
		d.Put(&changed)
	}
	return d
}

// TestGatewaysOfAnotherClusterCostWhatTheyAre counts what is looked at for changes that another cluster may make as often as it likes, of its Gateways and of what is behind them.
func TestGatewaysOfAnotherClusterCostWhatTheyAre(t *testing.T) {
	const gateways, addresses, ways, own = maxWaysIn, maxWaysIn, maxWaysIn, 1 // and the one of large, whose place crowds the last of these out
	const parts = 10                                                          // slices of 5000 pods
	for _, test := range []struct {
		name        string
		before      world.Delta
		flip        func(i int) world.Delta
		least, most int // what is looked at
	}{
		{name: "at a Service of a few pods", before: leading(gateways, 3), flip: relabelledGateway, least: gateways + addresses + ways + 3, most: gateways + own + addresses + ways + 3*4},
		{name: "at one of as many as are looked at", before: leading(gateways, maxBehind-2), flip: relabelledGateway, least: gateways + ways + maxBehind - 2, most: gateways + own + addresses + ways + 2*maxBehind},
		{name: "at one of more", before: leading(gateways, 5000), flip: relabelledGateway, least: gateways + ways + maxBehind - 2, most: gateways + own + addresses + ways + 2*maxBehind + parts},
		{
			name: "a pod of a Service of more", before: leading(gateways, 5000), least: gateways + ways + maxBehind - 2, most: gateways + own + addresses + ways + 2*maxBehind + parts + 2,
			flip: func(i int) world.Delta { return withPod(frontPod(7, i%2 != 0)) },
		},
		{
			name: "that may not be ways in", least: 5000, most: 5000 + own + 2,
			before: func() world.Delta {
				d := world.NewDelta()
				for i := range 5000 {
					d.Put(tunnels(world.Key{Cluster: "west", Namespace: "tenant", Name: fmt.Sprint("g", i)}, 1, "203.0.115.1"))
				}
				return d
			}(),
			flip: func(i int) world.Delta {
				g := tunnels(world.Key{Cluster: "west", Namespace: "tenant", Name: "g7"}, int64(i+2), "203.0.115.1")
				d := world.NewDelta()
				d.Put(g)
				return d
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			engine, state := NewEngine(testConfig), world.NewState()
			for _, d := range []world.Delta{large(2), test.before} {
				state.Apply(d)
				engine.Apply(d)
			}
			for i := range 4 {
				d := test.flip(i)
				state.Apply(d)
				if got := engine.Apply(d).Translated; got < test.least || got > test.most {
					t.Errorf("flip %d: %d objects are looked at, want %d to %d", i, got, test.least, test.most)
				}
			}
			if diff := difference(Build(state, testConfig), engine.Output()); diff != "" {
				t.Error("the engine differs:", diff)
			}
		})
	}
}

// TestGatewaysOfOthersAreLetBe: a change of one cluster's Gateways has nobody look at those of others, but for which of the ways in that were found there are doors.
func TestGatewaysOfOthersAreLetBe(t *testing.T) {
	engine := NewEngine(testConfig)
	engine.Apply(large(2))
	engine.Apply(leading(maxWaysIn, 900))
	north := func(i int) world.Delta {
		d := world.NewDelta()
		d.Put(&world.Namespace{Key: world.Key{Cluster: "north", Name: "isthmus-system"}, Labels: map[string]string{world.LabelNetwork: "north"}})
		d.Put(tunnels(world.Key{Cluster: "north", Namespace: "isthmus-system", Name: "gw"}, int64(i), "203.0.116.1"))
		return d
	}
	engine.Apply(north(1))
	for i := range 4 {
		if got := engine.Apply(north(i + 2)).Translated; got < maxWaysIn+1 || got > maxWaysIn+3 {
			t.Errorf("flip %d: %d objects are looked at, want a Gateway, its address, and %d ways in", i, got, maxWaysIn+1)
		}
	}
}

// TestMoreBehindAFrontThanIsLookedAt: a Gateway of another cluster goes on as it was when there is more behind its Service than is looked at, by what comes first there, whatever becomes of the rest.
func TestMoreBehindAFrontThanIsLookedAt(t *testing.T) {
	apply := agreeing(t)
	const most = maxBehind - 2 // beside two slices
	doors := func(o Output) []string {
		weight := map[netip.Addr]uint32{}
		for uid, w := range o.Mesh.Workloads {
			if strings.HasSuffix(uid, "/s0.demo.svc.cluster.local") && w.NetworkGateway != nil {
				weight[w.NetworkGateway.Addr.Addr] = w.Capacity
			}
		}
		var out []string
		for _, uid := range slices.Sorted(maps.Keys(o.Mesh.Workloads)) {
			if w := o.Mesh.Workloads[uid]; w.Kind == mesh.KindDeployment && w.Network == "west" {
				out = append(out, fmt.Sprint(w.Addresses[0], " ", w.ServiceAccount, " ", w.Locality.Region, " ", weight[w.Addresses[0]]))
			}
		}
		return out
	}
	check := func(o Output, want ...string) {
		t.Helper()
		if got := doors(o); !slices.Equal(got, want) {
			t.Errorf("west's ways in are %q, want %q", got, want)
		}
	}
	unready := func(from, to int) world.Delta {
		d := world.NewDelta()
		for i := from; i < to; i++ {
			d.Put(frontPod(i, false))
		}
		return d
	}
	apply(large(2))
	d := leading(1, most)
	d.Put(&world.Node{Key: world.Key{Cluster: "west", Name: "n1"}, Locality: mesh.Locality{Region: "eu"}})
	both, alone := []string{"203.0.113.9 gw  1", "203.0.114.1 front eu 99"}, "203.0.113.9 gw  100"
	check(apply(d), both...)
	check(apply(unready(0, most)), alone)
	check(apply(leading(1, most)), both...)
	check(apply(leading(1, most+1)), both...)
	check(apply(unready(most, most+1)), both...)
	check(apply(leading(1, 5*maxBehind)), both...)
	d = world.NewDelta()
	for at := 1000; at < 5*maxBehind; at += 500 {
		d.Delete(world.ObjectRef{Kind: world.KindEndpointSlice, Key: world.Key{Cluster: "west", Namespace: "isthmus-system", Name: fmt.Sprint("front-", at)}})
	}
	check(apply(d), both...)
	check(apply(unready(0, 1000)), alone)
	check(apply(leading(1, most+1)), both...)
	check(apply(unready(0, most)), alone) // who comes after them nobody looks at
	check(apply(withPod(frontPod(7, true))), both...)
	d = world.NewDelta()
	for _, e := range leading(1, most).EndpointSlices {
		d.Delete(e.Ref())
	}
	check(apply(d), "203.0.113.9 gw  50", "203.0.114.1 w00  50") // nobody says who is there
}

// BenchmarkGatewayOfAnotherCluster is a change of one of 64 Gateways of another cluster, in a world of 100,000 pods, of which its Service has some or as many again.
func BenchmarkGatewayOfAnotherCluster(b *testing.B) {
	for _, pods := range []int{3, 900, 100_000} {
		b.Run(fmt.Sprintf("behind=%d", pods), func(b *testing.B) {
			engine := NewEngine(testConfig)
			engine.Apply(large(500))
			engine.Apply(leading(maxWaysIn, pods))
			i, translated := 0, 0
			for b.Loop() {
				i++
				translated += engine.Apply(relabelledGateway(i)).Translated
			}
			b.ReportMetric(float64(translated)/float64(i), "translated/op")
		})
	}
}
