// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// bootDeadline is how long the first answer to proxies may wait for remote clusters: an answer without them would take their
	// endpoints out of use (design, part 5).
	bootDeadline = 30 * time.Second
	// bootTick is how often it is asked, while nothing changes, whether everything is known.
	bootTick = 20 * time.Millisecond
	// doubtTick is the same while proxies are answered with what is known of some clusters only.
	doubtTick = time.Second
)

// publisher is the discovery server.
type publisher interface {
	Update(mesh.Delta)
	SetReady()
	SetDoubt(func(name string) bool)
}

// Pipeline is the one goroutine that owns the translate.Engine: it takes what changed in the world, publishes what that means for the
// mesh, and keeps the rest (findings, plans, counts) for the controllers that write.
type Pipeline struct {
	store   *world.Store
	engine  *translate.Engine
	publish publisher
	local   world.Cluster
	known   func() (own bool, unheard []world.Cluster) // whether our own cluster as it was at start is in the store, and which others are not, in order
	// near says whether the objects of our own cluster as they were at start are in the store, which is a part of own; nil: not before all of own is.
	near    func() bool
	changed func(translate.Change)
	// reads says that somebody reads what the translation wants, and says so if it is not there: the first answer waits for it.
	reads bool
	log   logr.Logger
	home  chan struct{}
	ready chan struct{}
	// deadline is bootDeadline but in tests.
	deadline time.Duration

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
	vips      map[mesh.ServiceKey][]world.Cluster
	serving   map[mesh.GatewayKey]struct{}
	listeners map[world.ObjectRef][]translate.ListenerState
	sets      map[world.Key]int
	waypoints map[string]struct{} // namespaces that want an automatic one
}

// NewPipeline makes a pipeline. changed is called from its goroutine after every change and must not block.
func NewPipeline(store *world.Store, config world.Config, publish publisher, known func() (own bool, unheard []world.Cluster), changed func(translate.Change), log logr.Logger) *Pipeline {
	return &Pipeline{
		store: store, engine: translate.NewEngine(config), publish: publish, local: config.LocalCluster,
		known: known, changed: changed, log: log, home: make(chan struct{}), ready: make(chan struct{}), deadline: bootDeadline,
		results: results{
			findings:  map[world.ObjectRef][]translate.Finding{},
			plans:     map[world.Key]*translate.GatewayPlan{},
			addresses: map[world.Key][]world.GatewayAddress{},
			scopes:    map[world.Key]translate.ScopeStatus{},
			remotes:   map[world.Cluster]translate.RemoteCount{},
			vips:      map[mesh.ServiceKey][]world.Cluster{},
			serving:   map[mesh.GatewayKey]struct{}{},
			listeners: map[world.ObjectRef][]translate.ListenerState{},
			sets:      map[world.Key]int{},
			waypoints: map[string]struct{}{},
		},
	}
}

// NeedLeaderElection is false: every replica serves discovery.
func (p *Pipeline) NeedLeaderElection() bool { return false }

// Ready is closed once proxies are answered.
func (p *Pipeline) Ready() <-chan struct{} { return p.ready }

// Home is closed once all that there is in our own cluster is translated, whatever is known of others, and also when there is nothing to answer proxies with, as without an authority.
// What is found before is about a part of it: of a Gateway the certificates may not be read, or its ListenerSets.
func (p *Pipeline) Home() <-chan struct{} { return p.home }

// Start runs the loop until ctx ends.
func (p *Pipeline) Start(ctx context.Context) error {
	if unheard, ok := p.boot(ctx); ok && len(unheard) > 0 {
		p.complete(ctx, unheard)
	}
	for {
		delta, err := p.take(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		p.apply(delta)
	}
}

// boot translates until everything that the first answer needs is known. Other clusters are waited for until a deadline; our own one
// always, because an answer without it would take everything out of use. Certificates are waited for as long as clusters, and what reading them may take: without a bound, one that nobody
// reads would keep everything else from proxies. It gives the clusters that were not heard of by then; false if it was ended.
func (p *Pipeline) boot(ctx context.Context) ([]world.Cluster, bool) {
	began := time.Now()
	var read time.Time // when our own cluster was, and so what certificates are referred to
	home := sync.OnceFunc(func() { close(p.home) })
	giveUp := sync.OnceFunc(func() {
		p.log.Info("certificates that are referred to were not read, and count as absent until they are", "after", time.Since(read).Round(time.Millisecond).String())
	})
	for {
		own, unheard := p.known() // asked first: what was known then is in what is taken now
		near := own
		if p.near != nil {
			near = own || p.near()
		}
		if !p.step(ctx, bootTick, p.store.Take) {
			return nil, false
		}
		if near && read.IsZero() {
			read = time.Now()
		}
		unread := near && p.reads && p.engine.Unread()
		if unread && time.Since(read) > p.deadline+secretPatience {
			giveUp()
			unread = false
		}
		if !near || unread {
			continue
		}
		if home(); own && (len(unheard) == 0 || time.Since(began) > p.deadline) {
			p.log.Info("answering proxies", "unheard", unheard, "after", time.Since(began).Round(time.Millisecond).String())
			if len(unheard) > 0 {
				p.publish.SetDoubt(inDoubt(unheard))
			}
			p.publish.SetReady()
			close(p.ready)
			return unheard, true
		}
	}
}

// complete translates while answers lack clusters, until all were heard of or are not wished for any more.
func (p *Pipeline) complete(ctx context.Context, unheard []world.Cluster) {
	for len(unheard) > 0 {
		_, now := p.known()
		if !p.step(ctx, doubtTick, p.take) {
			return
		}
		if slices.Equal(now, unheard) {
			continue
		}
		unheard = now
		p.log.Info("more clusters are known", "unheard", unheard)
		p.publish.SetDoubt(inDoubt(unheard))
	}
}

// take gathers what proxies are to be told of.
func (p *Pipeline) take(ctx context.Context) (world.Delta, error) {
	return p.store.TakeGathered(ctx, p.local, beat)
}

// step takes and applies what changes within a time; false if ctx ended.
func (p *Pipeline) step(ctx context.Context, within time.Duration, take func(context.Context) (world.Delta, error)) bool {
	tick, cancel := context.WithTimeout(ctx, within)
	delta, err := take(tick)
	cancel()
	if err == nil {
		p.apply(delta)
		return true
	}
	return ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
}

// inDoubt says of a name of an address, which is not known, whether it may be that of something in a cluster that was not heard of; nil if there is none.
// A workload's uid begins with its cluster; what is made of several clusters' words (services, gateways and what lies behind them) may always be.
func inDoubt(unheard []world.Cluster) func(name string) bool {
	if len(unheard) == 0 {
		return nil
	}
	return func(name string) bool {
		cluster, rest, _ := strings.Cut(name, "/")
		// "<cluster>//Pod/<namespace>/<name>" or "<cluster>/<group>/<kind>/<namespace>/<name>…".
		if !strings.HasPrefix(rest, "/Pod/") && !strings.HasPrefix(rest, "discovery.k8s.io/") {
			return true
		}
		return slices.Contains(unheard, world.Cluster(cluster))
	}
}

func (p *Pipeline) apply(delta world.Delta) {
	change := p.engine.Apply(delta)
	p.store.Spent(change.Translated)
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
	for ref, l := range change.Listeners {
		setPointer(r.listeners, ref, l)
	}
	for key, n := range change.AttachedSets {
		setPointer(r.sets, key, n)
	}
	for key, s := range change.Scopes {
		setPointer(r.scopes, key, s)
	}
	for id, c := range change.Remotes {
		setPointer(r.remotes, id, c)
	}
	for key, g := range change.Mesh.Gateways {
		set(r.serving, key, struct{}{}, g != nil)
	}
	for namespace, wanted := range change.Waypoints {
		set(r.waypoints, namespace, struct{}{}, wanted)
	}
	for key, of := range change.VIPs {
		set(r.vips, key, of, len(of) > 0)
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

// ServingNamespaces are those in which gateways run, also those of Gateways that keep what was accepted last.
func (p *Pipeline) ServingNamespaces() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	namespaces := map[string]struct{}{}
	for key := range p.results.serving {
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

// Listeners of a local Gateway of ours, or of a ListenerSet of one, in their order.
func (p *Pipeline) Listeners(kind world.Kind, namespace, name string) []translate.ListenerState {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.results.listeners[world.ObjectRef{Kind: kind, Key: p.key(namespace, name)}]
}

// AttachedSets counts the accepted ListenerSets of a local Gateway of ours; false if none names it.
func (p *Pipeline) AttachedSets(namespace, name string) (int, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n, ok := p.results.sets[p.key(namespace, name)]
	return n, ok
}

// SetsOf are the ListenerSets of a local Gateway of ours, also those that it does not let in. It looks at all that something is said of.
func (p *Pipeline) SetsOf(gateway types.NamespacedName) []types.NamespacedName {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var out []types.NamespacedName
	for ref := range p.results.findings { // one that is not let in has no listeners
		if ref.Kind != world.KindListenerSet {
			continue
		}
		o, _ := p.store.Get(ref)
		if s, ok := o.(*world.ListenerSet); ok && s.Gateway == p.key(gateway.Namespace, gateway.Name) {
			out = append(out, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name})
		}
	}
	return out
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

// WantsWaypoint says whether a namespace needs an automatic waypoint.
func (p *Pipeline) WantsWaypoint(namespace string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, wanted := p.results.waypoints[namespace]
	return wanted
}

// WantVIPs are the services that need an address of ours, and the clusters that have them, in order. The map is the caller's, what is in it is not.
func (p *Pipeline) WantVIPs() map[mesh.ServiceKey][]world.Cluster {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return maps.Clone(p.results.vips)
}
