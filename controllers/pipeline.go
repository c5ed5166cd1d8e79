// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// bootDeadline is how long the first answer to proxies may wait for remote clusters: an answer without them would take their
	// endpoints out of use (design, part 5).
	bootDeadline = 30 * time.Second
	// bootQuiet is how long nothing may be pending before what is known at boot counts as translated.
	bootQuiet = 20 * time.Millisecond
)

// publisher is the discovery server.
type publisher interface {
	Update(mesh.Delta)
	SetReady()
}

// Pipeline is the one goroutine that owns the translate.Engine: it takes what changed in the world, publishes what that means for the
// mesh, and keeps the rest (findings, plans, counts) for the controllers that write.
type Pipeline struct {
	store   *world.Store
	engine  *translate.Engine
	publish publisher
	local   world.Cluster
	settled func() bool // what must be known before the first answer is known
	changed func(translate.Change)
	log     logr.Logger
	ready   chan struct{}

	mu      sync.RWMutex
	results results
}

// results are the parts of the Output that controllers read, as of the last change.
type results struct {
	findings  map[world.ObjectRef][]translate.Finding
	plans     map[world.Key]*translate.GatewayPlan
	addresses map[world.Key][]world.GatewayAddress
	scopes    map[world.Key]translate.ScopeStatus
	remotes   map[world.Cluster]translate.RemoteCount
	vips      map[mesh.ServiceKey]struct{}
}

// NewPipeline makes a pipeline. changed is called from its goroutine after every change and must not block.
func NewPipeline(store *world.Store, config world.Config, publish publisher, settled func() bool, changed func(translate.Change), log logr.Logger) *Pipeline {
	return &Pipeline{
		store: store, engine: translate.NewEngine(config), publish: publish, local: config.LocalCluster,
		settled: settled, changed: changed, log: log, ready: make(chan struct{}),
		results: results{
			findings:  map[world.ObjectRef][]translate.Finding{},
			plans:     map[world.Key]*translate.GatewayPlan{},
			addresses: map[world.Key][]world.GatewayAddress{},
			scopes:    map[world.Key]translate.ScopeStatus{},
			remotes:   map[world.Cluster]translate.RemoteCount{},
			vips:      map[mesh.ServiceKey]struct{}{},
		},
	}
}

// NeedLeaderElection is false: every replica serves discovery.
func (p *Pipeline) NeedLeaderElection() bool { return false }

// Ready is closed once proxies are answered.
func (p *Pipeline) Ready() <-chan struct{} { return p.ready }

// Start runs the loop until ctx ends.
func (p *Pipeline) Start(ctx context.Context) error {
	p.boot(ctx)
	for {
		delta, err := p.store.Take(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		p.apply(delta)
	}
}

// boot translates until everything that the first answer needs is known, or the deadline for it is over.
func (p *Pipeline) boot(ctx context.Context) {
	began := time.Now()
	for {
		settled := p.settled()
		quiet, cancel := context.WithTimeout(ctx, bootQuiet)
		delta, err := p.store.Take(quiet)
		cancel()
		switch {
		case err == nil:
			p.apply(delta)
		case ctx.Err() != nil:
			return
		case !errors.Is(err, context.DeadlineExceeded):
			return
		case settled, time.Since(began) > bootDeadline:
			p.log.Info("answering proxies", "complete", settled, "after", time.Since(began).Round(time.Millisecond).String())
			p.publish.SetReady()
			close(p.ready)
			return
		}
	}
}

func (p *Pipeline) apply(delta world.Delta) {
	change := p.engine.Apply(delta)
	p.publish.Update(change.Mesh)
	p.mu.Lock()
	r := &p.results
	for ref, f := range change.Findings {
		set(r.findings, ref, f, len(f) > 0)
	}
	for key, plan := range change.Gateways {
		set(r.plans, key, plan, plan != nil)
	}
	for key, a := range change.GatewayAddresses {
		setPointer(r.addresses, key, a)
	}
	for key, s := range change.Scopes {
		setPointer(r.scopes, key, s)
	}
	for id, c := range change.Remotes {
		setPointer(r.remotes, id, c)
	}
	for key, wanted := range change.VIPs {
		set(r.vips, key, struct{}{}, wanted)
	}
	p.mu.Unlock()
	p.changed(change)
}

func set[K comparable, V any](m map[K]V, k K, v V, there bool) {
	if there {
		m[k] = v
	} else {
		delete(m, k)
	}
}

func setPointer[K comparable, V any](m map[K]V, k K, v *V) {
	if v != nil {
		m[k] = *v
	} else {
		delete(m, k)
	}
}

// key names an object of the local cluster.
func (p *Pipeline) key(namespace, name string) world.Key {
	return world.Key{Cluster: p.local, Namespace: namespace, Name: name}
}

// Findings about an object of the local cluster.
func (p *Pipeline) Findings(kind world.Kind, namespace, name string) []translate.Finding {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.results.findings[world.ObjectRef{Kind: kind, Key: p.key(namespace, name)}]
}

// Plan for a local Gateway, nil if it is not accepted.
func (p *Pipeline) Plan(namespace, name string) *translate.GatewayPlan {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.results.plans[p.key(namespace, name)]
}

// PlannedNamespaces are those in which gateways run.
func (p *Pipeline) PlannedNamespaces() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	namespaces := map[string]struct{}{}
	for key := range p.results.plans {
		namespaces[key.Namespace] = struct{}{}
	}
	return slices.Sorted(maps.Keys(namespaces))
}

// Addresses of a local Gateway of ours; false if it is not ours.
func (p *Pipeline) Addresses(namespace, name string) ([]world.GatewayAddress, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	a, ok := p.results.addresses[p.key(namespace, name)]
	return a, ok
}

// Scope gives the status of a ServiceScope; false if it was not translated yet.
func (p *Pipeline) Scope(name string) (translate.ScopeStatus, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	s, ok := p.results.scopes[p.key("", name)]
	return s, ok
}

// Remote counts what is taken from a remote cluster.
func (p *Pipeline) Remote(id world.Cluster) translate.RemoteCount {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.results.remotes[id]
}

// WantVIPs are the services that need an address of ours.
func (p *Pipeline) WantVIPs() []mesh.ServiceKey {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Collect(maps.Keys(p.results.vips))
}
