// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// requests are a stream that says the same two requests by turns, without end or until it said so many.
type requests struct {
	deltaStream
	ctx         context.Context
	first, then *discovery.DeltaDiscoveryRequest
	said, most  int
}

func (r *requests) Context() context.Context { return r.ctx }

func (r *requests) Recv() (*discovery.DeltaDiscoveryRequest, error) {
	if r.said == r.most || r.ctx.Err() != nil {
		return nil, io.EOF
	}
	if r.said++; r.said%2 == 1 {
		return r.first, nil
	}
	return r.then, nil
}

// TestWhoMakesUsWalkWaits: to want everything and not to want it any more are some bytes to say, and all that there is to look at. Whoever says them without end waits, and nobody else does.
func TestWhoMakesUsWalkWaits(t *testing.T) {
	const resources, burst, watched = 500, 20_000, 5 * time.Second
	all, none := wildcard(addressURL), &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesUnsubscribe: []string{"*"}}
	all.ResourceNamesSubscribe = []string{"*"}
	ask := func(name string) (ask, drop *discovery.DeltaDiscoveryRequest) {
		return &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesSubscribe: []string{name}},
			&discovery.DeltaDiscoveryRequest{TypeUrl: addressURL, ResourceNamesUnsubscribe: []string{name}}
	}
	service, noService := ask("n/web")
	nobody, notHim := ask("nobody")
	for what, tc := range map[string]struct {
		begins, first, then *discovery.DeltaDiscoveryRequest
		walks               int // names that each of both makes us look at, at least
	}{
		"everything, and not":    {nobody, all, none, resources},
		"a service, and not":     {nobody, service, noService, resources},
		"a name beside a lot":    {service, nobody, notHim, 0},
		"a name beside all":      {all, nobody, notHim, 0},
		"an acknowledgement":     {all, &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL}, &discovery.DeltaDiscoveryRequest{TypeUrl: addressURL}, 0},
		"nothing, and nothing":   {nobody, none, none, 0},
		"everything, everything": {all, all, all, 0},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &listeners{t, NewServer(ServerOptions{Log: logr.Discard()})}
				l.server.walkBurst = burst
				world := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}}
				web := &mesh.Service{Namespace: "n", Hostname: "web"}
				world.Services[web.Key()] = web
				for i := range resources {
					w := pod(fmt.Sprint("w", i), "", "", "web")
					world.Workloads[w.UID] = w
				}
				l.server.Update(world)
				sub := &subscriber{server: l.server, wake: make(chan struct{}, 1), types: map[string]*subscription{}, log: logr.Discard()}
				if err := l.server.enlist(sub); err != nil {
					t.Fatal(err)
				}
				l.say(sub, tc.begins)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				most := 30
				if tc.walks > 0 {
					most = 1000
				}
				stream := &requests{ctx: ctx, first: tc.first, then: tc.then, most: most}
				sub.stream = stream
				began := time.Now()
				ended := make(chan struct{})
				go func() { defer close(ended); sub.receive() }()
				time.Sleep(watched)
				synctest.Wait()
				if tc.walks == 0 {
					select {
					case <-ended:
					default:
						t.Errorf("after %v only %d of %d requests were taken", watched, stream.said, most)
					}
					return
				}
				bound := (burst+int(watched.Seconds())*walkRate)/tc.walks + 2
				if stream.said > bound {
					t.Errorf("%d requests were taken, want %d at most", stream.said, bound)
				}
				if want := burst / tc.walks; stream.said < want {
					t.Errorf("only %d requests were taken, want %d at least", stream.said, want)
				}
				before := time.Now()
				other := l.join(wildcard(addressURL), false)
				l.server.Update(workloads(pod("new", "", "")))
				if got := l.hears(other); got != "+new" || time.Since(before) != 0 {
					t.Errorf("another one hears %q after %v", got, time.Since(before))
				}
				cancel() // who leaves waits for nothing
				synctest.Wait()
				select {
				case <-ended:
				default:
					t.Errorf("it still waits %v after it began", time.Since(began))
				}
			})
		})
	}
}

func TestWalksAreForgiven(t *testing.T) {
	var w walks
	now := time.Now()
	if wait := w.took(walkBurst, walkBurst, now); wait != 0 {
		t.Errorf("it waits %v for what one may at once", wait)
	}
	if wait := w.took(walkRate/2, walkBurst, now); wait != time.Second/2 {
		t.Errorf("it waits %v for half of what is looked at in a second", wait)
	}
	now = now.Add(time.Hour)
	if wait := w.took(walkBurst, walkBurst, now); wait != 0 {
		t.Errorf("after an hour it waits %v", wait)
	}
}
