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
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// published is a discovery server that notes what it was told before it was to answer.
type published struct {
	view  mesh.Snapshot
	ready bool

	mu      sync.Mutex
	updates int
	doubt   func(string) bool
	settled func() // called when there is no doubt any more
}

func (p *published) SetReady() { p.ready = true }

func (p *published) Update(d mesh.Delta) {
	p.view.Apply(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.updates++
}

// told is how often it was told of something.
func (p *published) told() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.updates
}

func (p *published) SetDoubt(doubt func(string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubt = doubt
	if doubt == nil && p.settled != nil {
		p.settled()
	}
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
		home     time.Duration // 0: never
		ready    time.Duration // 0: never
	}{
		{"everything", time.Second, 2 * time.Second, time.Second, 2 * time.Second},
		{"a cluster that does not answer", time.Second, 0, time.Second, bootDeadline},
		{"our own is slow", bootDeadline + time.Minute, 0, bootDeadline + time.Minute, bootDeadline + time.Minute},
		{"our own does not answer", 0, 0, 0, 0},
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
					case <-p.Home():
						if at := time.Since(began); tc.home == 0 || at < tc.home || at > tc.home+5*bootTick {
							t.Errorf("our own cluster is translated after %v, want %v", at, tc.home)
						}
					case <-ctx.Done():
						if tc.home != 0 {
							t.Errorf("our own cluster is not translated, want that after %v", tc.home)
						}
					}
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

// TestBootDoesNotWaitForCertificatesForEver: what the first answer needs to be read, and nobody reads, is not waited for any longer than a cluster, and what it is given.
func TestBootDoesNotWaitForCertificatesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		store, out := world.NewStore(), &published{view: mesh.NewSnapshot()}
		p := NewPipeline(store, testWorld, out, func() (bool, []world.Cluster) { return true, nil }, func(translate.Change) {}, logr.Discard())
		p.reads = true
		store.Put(&world.BackendTLSPolicy{
			Key:     world.Key{Cluster: "east", Namespace: "n", Name: "p"},
			Targets: []world.NamedPort{{Service: "s"}}, CAs: []world.SecretRef{{Kind: "ConfigMap", Namespace: "n", Name: "ca"}},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*bootDeadline)
		var running sync.WaitGroup
		running.Go(func() { _ = p.Start(ctx) })
		select {
		case <-p.Ready():
			if at, want := time.Since(began), bootDeadline+secretPatience; at < want || at > want+5*bootTick {
				t.Errorf("answers after %v, want %v", at, want)
			}
			<-p.Home() // not later
		case <-ctx.Done():
			t.Error("does not answer")
		}
		cancel()
		running.Wait()
	})
}

// TestGatewaysDoNotNeedAnAuthority: what there is in our own cluster is known, and so what Gateways shall be, although nobody can be answered.
func TestGatewaysDoNotNeedAnAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := NewPipeline(world.NewStore(), testWorld, &published{view: mesh.NewSnapshot()}, func() (bool, []world.Cluster) { return false, nil }, func(translate.Change) {}, logr.Discard())
		p.near = func() bool { return time.Since(began) >= time.Second }
		ctx, cancel := context.WithTimeout(t.Context(), 5*bootDeadline)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { _ = p.Start(ctx) })
		select {
		case <-p.Home():
			if at := time.Since(began); at < time.Second || at > time.Second+5*bootTick {
				t.Errorf("our own cluster is translated after %v, want 1s", at)
			}
		case <-ctx.Done():
			t.Error("our own cluster is never translated")
		}
		select {
		case <-p.Ready():
			t.Error("proxies are answered")
		case <-ctx.Done():
		}
	})
}

// TestAnUnheardClusterCostsOthersNothing: what others say is gathered, and what our own cluster says is told at once, also while answers lack a cluster.
func TestAnUnheardClusterCostsOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, out := world.NewStore(), &published{view: mesh.NewSnapshot()}
		p := NewPipeline(store, testWorld, out, func() (bool, []world.Cluster) { return true, []world.Cluster{"west"} }, func(translate.Change) {}, logr.Discard())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.Start(ctx) })
		defer running.Wait()
		defer cancel()
		<-p.Ready()
		synctest.Wait()
		before, near := out.told(), 0
		for i := range 200 { // 2 s
			store.Put(&world.Namespace{Key: world.Key{Cluster: "south", Name: "n"}, Labels: map[string]string{"i": fmt.Sprint(i)}})
			synctest.Wait()
			if i%50 == 25 {
				at := out.told()
				store.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "n"}, Labels: map[string]string{"i": fmt.Sprint(i)}})
				synctest.Wait()
				near += out.told() - at
			}
			time.Sleep(10 * time.Millisecond)
		}
		if near != 4 {
			t.Errorf("%d changes of our own cluster were told at once, want 4", near)
		}
		if told := out.told() - before - near; told > 2*int(time.Second/beat.Every)+1 {
			t.Errorf("200 changes of another cluster in 2 s were told in %d parts, want at most one in %v", told, beat.Every)
		}
	})
}

// TestNoDoubtAfterTranslation: a cluster that was read is in doubt until all that was read is translated, however much that is.
func TestNoDoubtAfterTranslation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := testRemotes()
		feed := NewFeed(r.store, "west", remoteKinds(), system)
		feed.attached = []following{func() (all []any) {
			for i := range 5000 {
				all = append(all, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}})
			}
			return all
		}}
		next := &connection{id: "west", feed: feed, config: &Kubeconfig{}, cancel: func() {}}
		r.entries["west"] = &entry{next: next, wished: time.Now()}
		out := &published{view: mesh.NewSnapshot()}
		p := NewPipeline(r.store, testWorld, out, func() (bool, []world.Cluster) { return true, r.Unheard() }, func(translate.Change) {}, logr.Discard())
		var read world.Mark
		var early bool
		marked := make(chan struct{})
		out.settled = func() {
			<-marked
			early = !r.store.Done("west", read)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.Start(ctx) })
		<-p.Ready()
		r.promote("west", next)
		read = r.store.Mark()
		close(marked)
		time.Sleep(time.Minute)
		cancel()
		running.Wait()
		if out.doubts() != nil || early || len(r.store.Refs("west")) != 5000 {
			t.Errorf("in doubt: %v; no doubt any more before all was translated: %v; %d objects", out.doubts() != nil, early, len(r.store.Refs("west")))
		}
	})
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
		&world.Namespace{Key: key("", "a"), Labels: map[string]string{world.LabelEastWestGateways: "true"}},
		gateway("a", "HBONE"), gateway("never", "SMTP"))
	step([]string{"a"}, &world.Service{Key: key("a", "gw"), Labels: map[string]string{gatewayNameLabel: "gw"}, Ports: []world.ServicePort{{Name: "mesh", Port: 15008}}})
	step([]string{"a"}, gateway("a", "SMTP"))
	gone := gateway("a", "SMTP")
	gone.Deleting = true
	step(nil, gone)
}
