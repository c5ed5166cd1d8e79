// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestCountsAnew: where pods only become ready or unready, each door weighs and has the ports that a build gives it. On one network are pods of clusters with a door there, of one without, and
// of our own; of another one only pods of another service are, and its doors do not count for what they do not lead to. Each cluster's definition has a port that the others' have not.
func TestCountsAnew(t *testing.T) {
	for _, ours := range []bool{true, false} { // our own cluster has the service, or only an address for it
		for _, unhealthyToo := range []bool{false, true} {
			t.Run(fmt.Sprintf("ours=%v/unhealthy=%v", ours, unhealthyToo), func(t *testing.T) {
				var pods []*world.Pod
				d := world.NewDelta()
				d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
				d.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "edge"}, Labels: map[string]string{world.LabelNetwork: "dmz"}})
				d.Put(world.NewVIP(newIndex(testConfig).serviceKey(serviceName{"demo", "cart"}), netip.MustParseAddr("240.240.0.1"), netip.Addr{}))
				for i, c := range []struct {
					name    world.Cluster
					network string
					doors   []string // networks that its Gateways lead into
					pods    []string // networks of those behind cart; "": the cluster's own
					others  string   // network of one behind another service
				}{
					{"east", "east", []string{"east", "dmz"}, []string{"", "dmz"}, "dmz"},
					{"west", "west", []string{"west", "dmz"}, []string{"", "dmz"}, "dmz"},
					{"north", "dmz", []string{"dmz"}, []string{"", ""}, ""},
					{"south", "dmz", nil, []string{""}, ""},
					{"mid", "mid", []string{"mid"}, []string{""}, "dmz"},
				} {
					in := func(namespace, name string) world.Key {
						return world.Key{Cluster: c.name, Namespace: namespace, Name: name}
					}
					d.Put(&world.Namespace{Key: in("", "isthmus-system"), Labels: map[string]string{world.LabelNetwork: c.network}})
					d.Put(&world.Namespace{Key: in("", "demo")})
					d.Put(&world.ServiceScope{Key: in("", "default"), Entries: []world.ScopeEntry{{Scope: "GLOBAL"}}})
					if c.name != "east" {
						d.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: string(c.name)}, ID: c.name, Networks: []string{"dmz"}, MaxServices: 100, MaxEndpoints: 100})
					}
					for j, network := range c.doors {
						g := tunnels(in("isthmus-system", "to-"+network), 1, fmt.Sprintf("203.0.113.%d", 10*i+j+1))
						g.Network = network
						d.Put(g)
					}
					behind := func(service string, networks ...string) {
						slice := &world.EndpointSlice{Key: in("demo", service), Service: service, Ports: []world.EndpointPort{{Name: "http", Port: 8080}}}
						for j, network := range networks {
							p := &world.Pod{
								Key: in("demo", fmt.Sprint(service, j)), ServiceAccount: "demo", Captured: true, Ready: true, Labels: map[string]string{world.LabelNetwork: network},
								Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i), byte(len(service)), byte(j + 1)})},
							}
							slice.Endpoints = append(slice.Endpoints, world.Endpoint{Pod: p.Name})
							d.Put(p)
							pods = append(pods, p)
						}
						d.Put(slice)
						if c.name != "east" || ours {
							d.Put(&world.Service{Key: slice.Key, NotReady: unhealthyToo && i%2 == 0, Ports: []world.ServicePort{{Name: "http", Port: 80}, {Name: "own", Port: uint16(1000 + i)}}})
						}
					}
					behind("cart", c.pods...)
					behind("other", c.others)
				}
				apply := agreeing(t)
				apply(d)
				random := rand.New(rand.NewPCG(1, 2))
				for range 150 {
					d := world.NewDelta()
					for range 1 + random.IntN(3) {
						i := random.IntN(len(pods))
						flipped := *pods[i]
						flipped.Ready = !flipped.Ready
						pods[i] = &flipped
						d.Put(&flipped)
					}
					for uid, w := range apply(d).Mesh.Workloads {
						if !ours && w.Cluster == "east" && w.NetworkGateway != nil {
							t.Fatalf("%s leads to other clusters' pods, of a service that our own has not", uid)
						}
					}
				}
			})
		}
	}
}
