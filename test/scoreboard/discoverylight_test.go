// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"testing"

	"github.com/go-logr/logr"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// watchedPods are workloads 0 to n.
func watchedPods(n int) mesh.Delta {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for i := range n {
		p := watchedPod(i, 1)
		d.Workloads[p.UID] = p
	}
	return d
}

func watchedChange(capacity uint32) mesh.Delta {
	p := watchedPod(0, capacity)
	return mesh.Delta{Workloads: map[string]*mesh.Workload{p.UID: p}}
}

// lightWatcher is a client of a watched server, over a stream that was begun.
func lightWatcher(t testing.TB, w *watched, apply func(mesh.Delta) error) (*discoveryProxy, *lightStream) {
	t.Helper()
	proxy := &discoveryProxy{client: xds.NewClient(xds.ClientOptions{
		Log: logr.Discard(), Types: []xds.Type{xds.Addresses(), xds.Policies()},
		Apply: apply,
	})}
	requests, err := proxy.client.Hello()
	if err != nil {
		t.Fatal(err)
	}
	s, err := openLight(t.Context(), w.address, &tls.Config{RootCAs: w.signer.Roots(), ServerName: subscribersName, MinVersion: tls.VersionTLS12},
		discovery.AggregatedDiscoveryService_DeltaAggregatedResources_FullMethodName, []hpack.HeaderField{{Name: "authorization", Value: "Bearer good"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		if err := s.send(r); err != nil {
			t.Fatal(err)
		}
	}
	return proxy, s
}

// TestLightProxiesHearWhatChanges has pods of a controller's cluster change, and then the controller end, which must not be waited for in vain.
func TestLightProxiesHearWhatChanges(t *testing.T) {
	t.Chdir("../..") // rows are run there
	p, err := newDiscoveryPlane(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var running sync.WaitGroup
	defer func() {
		cancel(nil)
		running.Wait()
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	proxies, err := p.connectLight(ctx, &running, 5, cancel)
	if err != nil {
		t.Fatal(err)
	}
	unrest := newDiscoveryUnrest(p, p.clusters, proxies)
	for range 20 {
		if err := unrest.next(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.await(ctx, "all proxies know", func() (bool, error) { return proxies.missing() == 0, nil }); err != nil {
		t.Fatal(err)
	}
	if local, _ := proxies.delays(); len(local) != 5*20 {
		t.Errorf("%d changes were seen, want 20 by each of 5 proxies", len(local))
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.await(ctx, "nothing", func() (bool, error) { return false, nil }); !errors.Is(err, context.Canceled) || errors.Is(context.Cause(ctx), context.Canceled) {
		t.Errorf("the controller is gone: %v, because of %v", err, context.Cause(ctx))
	}
}
