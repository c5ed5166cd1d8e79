// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// relabelled is a pod of large with a network of its own.
func relabelled(c world.Cluster, network string) world.Delta {
	d := world.NewDelta()
	p := largePod(c, 3, 42, true)
	p.Labels = map[string]string{world.LabelNetwork: network}
	d.Put(p)
	return d
}

// labelled is a namespace with a network of its own.
func labelled(c world.Cluster, name, network string) world.Delta {
	d := world.NewDelta()
	d.Put(&world.Namespace{Key: world.Key{Cluster: c, Name: name}, Labels: map[string]string{world.LabelNetwork: network}})
	return d
}

// TestNetworkLabelsTouchWhatTheyMean counts what is translated when a label names another network, which whoever may write pods can do as often as they like, and another
// cluster as well.
func TestNetworkLabelsTouchWhatTheyMean(t *testing.T) {
	const services = 20 // and 2000 pods, in each cluster
	for _, test := range []struct {
		name   string
		before []world.Delta
		flip   func(i int) world.Delta
		most   int
	}{
		{name: "a pod of ours names a network that we have not", most: 2, flip: func(i int) world.Delta { return relabelled("east", fmt.Sprintf("mine-%d", i)) }},
		{name: "a pod of ours names another cluster's network", most: 2, flip: func(i int) world.Delta { return relabelled("east", []string{"west", ""}[i%2]) }},
		{
			name: "a pod of ours goes to another network of ours and back", before: []world.Delta{labelled("east", "edge", "dmz")}, most: 3,
			flip: func(i int) world.Delta { return relabelled("east", []string{"dmz", ""}[i%2]) },
		},
		{name: "a pod of another cluster names a network", most: 3, flip: func(i int) world.Delta { return relabelled("west", fmt.Sprintf("mine-%d", i)) }},
		{
			name: "a cluster on a network of its own names another one", most: services + 3, // and its Gateway, the address of that, and whether it is a way in
			flip: func(i int) world.Delta { return labelled("west", "isthmus-system", fmt.Sprintf("west-%d", i)) },
		},
		{
			name: "so does one whose network we name", most: 3,
			before: []world.Delta{func() world.Delta {
				d := world.NewDelta()
				d.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: "west"}, ID: "west", Network: "campus", MaxServices: 100, MaxEndpoints: 1 << 20})
				return d
			}()},
			flip: func(i int) world.Delta { return labelled("west", "isthmus-system", fmt.Sprintf("west-%d", i)) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			engine := NewEngine(testConfig)
			engine.Apply(large(services))
			for _, d := range test.before {
				engine.Apply(d)
			}
			for i := range 4 {
				if got := engine.Apply(test.flip(i)).Translated; got > test.most {
					t.Errorf("flip %d: %d objects are translated, want %d at most", i, got, test.most)
				}
			}
		})
	}
}

// BenchmarkNetworkLabel is the same in a world of 100 000 pods.
func BenchmarkNetworkLabel(b *testing.B) {
	for name, flip := range map[string]func(int) world.Delta{
		"pod":    func(i int) world.Delta { return relabelled("east", fmt.Sprintf("mine-%d", i)) },
		"remote": func(i int) world.Delta { return labelled("west", "isthmus-system", fmt.Sprintf("west-%d", i)) },
	} {
		b.Run(name, func(b *testing.B) {
			engine := NewEngine(testConfig)
			engine.Apply(large(500))
			i, translated := 0, 0
			for b.Loop() {
				i++
				translated += engine.Apply(flip(i)).Translated
			}
			b.ReportMetric(float64(translated)/float64(i), "translated/op")
		})
	}
}
