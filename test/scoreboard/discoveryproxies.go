// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// discoveryChange is one pod that became ready or unready, as proxies see it: by its own workload if it is local, by the capacity of
// its service's split-horizon workload if it is remote.
type discoveryChange struct {
	id       int
	local    bool
	at       time.Time
	healthy  bool   // of a local one
	capacity uint32 // of a remote one
}

// discoveryProxies are node proxies' clients, each with a connection of its own.
type discoveryProxies struct {
	all []*discoveryProxy

	mu      sync.RWMutex
	changes map[news]discoveryChange // the latest, by what is told of it
}

// discoveryProxy is the product's client and what it saw. It keeps no directory: 200 of them in one process would measure this
// process. What a proxy does with a change is a map put into a copy, which node proxies do on nodes of their own.
type discoveryProxy struct {
	of     *discoveryProxies
	client *xds.Client

	mu            sync.Mutex
	seen          map[news]int // by what is told: the last change of it that was seen
	local, remote []time.Duration
	told          int        // answers since the last forget
	judge         *bootJudge // of the first answer, or nil
}

// connect starts proxies and returns when each has had its first answers. They end with ctx; call wait then.
func (p *discoveryPlane) connect(ctx context.Context, running *sync.WaitGroup, n int) (*discoveryProxies, error) {
	all := &discoveryProxies{changes: map[news]discoveryChange{}}
	for i := range n {
		all.add(ctx, p, running, i)
	}
	return all, all.synced(ctx)
}

func (all *discoveryProxies) add(ctx context.Context, p *discoveryPlane, running *sync.WaitGroup, i int) *discoveryProxy {
	proxy, _ := all.enter(p, i)
	running.Go(func() { _ = proxy.client.Run(ctx) }) // ctx's error
	return proxy
}

// enter adds a proxy of which nothing runs yet.
func (all *discoveryProxies) enter(p *discoveryPlane, i int) (*discoveryProxy, xds.ClientOptions) {
	proxy := &discoveryProxy{of: all, seen: map[news]int{}}
	options := p.proxyOptions(i)
	options.Log, options.Apply = logr.Discard(), proxy.apply
	proxy.client = xds.NewClient(options)
	all.all = append(all.all, proxy)
	return proxy, options
}

func (all *discoveryProxies) synced(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, discoveryWait)
	defer cancel()
	for _, p := range all.all {
		select {
		case <-p.client.Synced():
		case <-limit.Done():
			return errors.New("a proxy has no answer")
		}
	}
	return nil
}

// expect notes a change that is about to be made.
func (all *discoveryProxies) expect(key news, c discoveryChange) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.changes[key] = c
}

// apply notes which changes a proxy has now.
func (p *discoveryProxy) apply(d mesh.Delta) error {
	now := time.Now()
	p.of.mu.RLock()
	defer p.of.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told++
	for uid, w := range d.Workloads {
		if w == nil {
			continue
		}
		key := newsOf(uid, w)
		c, ok := p.of.changes[key]
		if !ok || p.seen[key] == c.id || c.local && c.healthy == w.Unhealthy || !c.local && c.capacity != w.Capacity {
			continue
		}
		p.seen[key] = c.id
		if c.local {
			p.local = append(p.local, now.Sub(c.at))
		} else {
			p.remote = append(p.remote, now.Sub(c.at))
		}
	}
	if p.judge != nil {
		p.judge.look(d, p.client.Partial())
	}
	return nil
}

// news names what is told of a change: a pod by its UID, pods of another network by that and their service.
type news struct {
	uid, network string
	service      mesh.ServiceKey
}

func newsOf(uid string, w *mesh.Workload) news {
	if w.NetworkGateway != nil && len(w.Addresses) == 0 {
		for service := range w.Services {
			return news{network: w.Network, service: service}
		}
	}
	return news{uid: uid}
}

// missing counts the changes that proxies have not seen.
func (all *discoveryProxies) missing() int {
	all.mu.RLock()
	defer all.mu.RUnlock()
	n := 0
	for _, p := range all.all {
		p.mu.Lock()
		for key, c := range all.changes {
			if p.seen[key] != c.id {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

// forget begins measuring anew.
func (all *discoveryProxies) forget() {
	for _, p := range all.all {
		p.mu.Lock()
		p.local, p.remote, p.told = nil, nil, 0
		p.mu.Unlock()
	}
}

// delays are those of all proxies.
func (all *discoveryProxies) delays() (local, remote []time.Duration) {
	for _, p := range all.all {
		p.mu.Lock()
		local, remote = append(local, p.local...), append(remote, p.remote...)
		p.mu.Unlock()
	}
	return local, remote
}

// told is how often a proxy was told something since the last forget, on average.
func (all *discoveryProxies) told() float64 {
	sum := 0
	for _, p := range all.all {
		p.mu.Lock()
		sum += p.told
		p.mu.Unlock()
	}
	return float64(sum) / float64(len(all.all))
}
