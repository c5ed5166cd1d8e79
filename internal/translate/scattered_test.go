// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestIdentitiesOfOneServiceAreBounded: what another cluster says of the service accounts behind a service that is also ours becomes a part of what all proxies are told of
// it, so that their number is bounded, or the service would be more than proxies take.
func TestIdentitiesOfOneServiceAreBounded(t *testing.T) {
	apply := agreeing(t)
	d := large(2)
	d.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: "west"}, ID: "west", MaxServices: 100, MaxEndpoints: 10000})
	pod := func(n int) *world.Pod {
		p := largePod("west", 0, n, true)
		p.ServiceAccount = fmt.Sprint("a", n)
		return p
	}
	slice := &world.EndpointSlice{Key: world.Key{Cluster: "west", Namespace: "demo", Name: "s0"}, Service: "s0", Ports: []world.EndpointPort{{Name: "http", Port: 8080}}}
	for n := range maxPlaces {
		slice.Endpoints = append(slice.Endpoints, world.Endpoint{Pod: pod(n).Name})
		d.Put(pod(n))
	}
	d.Put(slice)
	service := mesh.ServiceKey{Namespace: "demo", Hostname: "s0.demo.svc.cluster.local"}
	check := func(o Output, scattered int) {
		t.Helper()
		sum, _ := weights(o, service.Hostname, "isthmus-system")
		if used := sum > 0; used != (scattered == 0) || used != (len(o.Mesh.Services[service].SANs) > 0) {
			t.Errorf("west's pods weigh %d, and %d identities are told", sum, len(o.Mesh.Services[service].SANs))
		}
		got := o.Remotes["west"]
		if got.Scattered != scattered || scattered > 0 != strings.Contains(got.Refused(), "more than 256 service accounts") || got.Services != 2-scattered {
			t.Errorf("%d services are left out, want %d; %d are in use: %s", got.Scattered, scattered, got.Services, got.Refused())
		}
	}
	check(apply(d), 0)
	more := *slice
	more.Endpoints = append(more.Endpoints[:maxPlaces:maxPlaces], world.Endpoint{Pod: pod(maxPlaces).Name})
	d = world.NewDelta()
	d.Put(&more)
	d.Put(pod(maxPlaces))
	check(apply(d), 1)
	d = world.NewDelta()
	d.Delete(pod(7).Ref())
	check(apply(d), 0)
	check(apply(withPod(pod(7))), 1)
	d = world.NewDelta() // and one that is away altogether leaves nothing behind
	d.Delete(world.ObjectRef{Kind: world.KindService, Key: slice.Key})
	if got := apply(d).Remotes["west"]; got.Scattered != 0 || got.Services != 1 {
		t.Errorf("after the service is gone: %+v", got)
	}
}

func withPod(p *world.Pod) world.Delta {
	d := world.NewDelta()
	d.Put(p)
	return d
}
