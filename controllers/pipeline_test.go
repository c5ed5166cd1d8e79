// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// published is a discovery server that notes what it was told before it was to answer.
type published struct {
	view  mesh.Snapshot
	ready bool

	mu    sync.Mutex
	doubt func(string) bool
}

func (p *published) Update(d mesh.Delta) { p.view.Apply(d) }
func (p *published) SetReady()           { p.ready = true }

func (p *published) SetDoubt(doubt func(string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubt = doubt
}

func (p *published) doubts() func(string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doubt
}

var testWorld = world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: system}

// TestBoot: the first answer waits for our own cluster whatever it takes, for others until the deadline, and not for the world to be still.
func TestBoot(t *testing.T) {
	for _, tc := range []struct {
		name     string
		own, all time.Duration // when it is known; 0: never
		ready    time.Duration // 0: never
	}{
		{"everything", time.Second, 2 * time.Second, 2 * time.Second},
		{"a cluster that does not answer", time.Second, 0, bootDeadline},
		{"our own is slow", bootDeadline + time.Minute, 0, bootDeadline + time.Minute},
		{"our own does not answer", 0, 0, 0},
	} {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, busy=%v", tc.name, busy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					after := func(d time.Duration) bool { return d != 0 && time.Since(began) >= d }
					store, out := world.NewStore(), &published{view: mesh.NewSnapshot()}
					known := func() (bool, []world.Cluster) {
						if !after(tc.all) {
							return after(tc.own), []world.Cluster{"west"}
						}
						return after(tc.own), nil
					}
					p := NewPipeline(store, testWorld, out, known, func(translate.Change) {}, logr.Discard())
					ctx, cancel := context.WithTimeout(t.Context(), 5*bootDeadline)
					var running sync.WaitGroup
					defer running.Wait()
					defer cancel()
					running.Go(func() {
						for i := int64(0); busy && ctx.Err() == nil; i++ { // more often than the pipeline asks
							store.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "n"}, Labels: map[string]string{"i": fmt.Sprint(i)}})
							time.Sleep(bootTick / 4)
						}
					})
					running.Go(func() { _ = p.Start(ctx) })
					select {
					case <-p.Ready():
						if at := time.Since(began); tc.ready == 0 || at < tc.ready || at > tc.ready+5*bootTick {
							t.Errorf("answers after %v, want %v", at, tc.ready)
						}
					case <-ctx.Done():
						if tc.ready != 0 {
							t.Errorf("does not answer, want an answer after %v", tc.ready)
						}
					}
					cancel()
					running.Wait()
					if out.ready != (tc.ready != 0) {
						t.Errorf("ready is %v", out.ready)
					}
					if partial := tc.ready != 0 && tc.all == 0; partial != (out.doubts() != nil) {
						t.Errorf("answers are partial: %v, want %v", out.doubts() != nil, partial)
					}
				})
			})
		}
	}
}

// TestServingNamespaces: the root stays where a gateway runs on that was accepted once.
func TestServingNamespaces(t *testing.T) {
	p := NewPipeline(world.NewStore(), testWorld, &published{view: mesh.NewSnapshot()}, nil, func(translate.Change) {}, logr.Discard())
	key := func(namespace, name string) world.Key {
		return world.Key{Cluster: "east", Namespace: namespace, Name: name}
	}
	gateway := func(namespace, protocol string) *world.Gateway {
		return &world.Gateway{Key: key(namespace, "gw"), Class: "eastwest", Listeners: []world.Listener{
			{Name: "mesh", Port: 15008, Protocol: protocol, HasTLS: true, TLSMode: "Terminate"}}}
	}
	step := func(want []string, objects ...world.Object) {
		t.Helper()
		d := world.NewDelta()
		for _, o := range objects {
			d.Put(o)
		}
		p.apply(d)
		if got := p.ServingNamespaces(); !slices.Equal(got, want) {
			t.Errorf("gateways run in %v, want %v", got, want)
		}
	}
	step([]string{"a"}, &world.GatewayClass{Key: key("", "eastwest"), Controller: translate.ControllerName},
		gateway("a", "HBONE"), gateway("never", "SMTP"))
	step([]string{"a"}, &world.Service{Key: key("a", "gw"), Labels: map[string]string{gatewayNameLabel: "gw"}, Ports: []world.ServicePort{{Name: "mesh", Port: 15008}}})
	step([]string{"a"}, gateway("a", "SMTP"))
	gone := gateway("a", "SMTP")
	gone.Deleting = true
	step(nil, gone)
}
