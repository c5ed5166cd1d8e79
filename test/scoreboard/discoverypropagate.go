// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/fleet"
)

const (
	propagateProxies = 200
	propagateRate    = 100 // changes a second, over all clusters alike
	propagateWarmUp  = 5 * time.Second
	propagateFor     = 30 * time.Second
	// propagateQuiet is a garbage collection's share of this process, which holds ten clusters and 200 proxies beside the subject.
	propagateQuiet = 400
)

// discoveryPropagate has pods become ready and unready in all clusters and asks every proxy when it knew.
func discoveryPropagate(ctx context.Context, out io.Writer) (_ result, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(propagateQuiet))
	p, err := newDiscoveryPlane(ctx, discoveryClusters)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.join(1, discoveryClusters); err != nil {
		return result{}, err
	}
	if err := p.start(ctx); err != nil {
		return result{}, err
	}
	if err := p.awaitReady(ctx); err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	defer func() { err = errors.Join(err, context.Cause(ctx)) }() // a proxy whose stream broke
	began := time.Now()
	proxies, err := p.connectLight(ctx, &running, propagateProxies, cancel)
	if err != nil {
		return result{}, err
	}
	fmt.Fprintf(out, "%d proxies have their first answers after %.1f s\n", propagateProxies, time.Since(began).Seconds())

	churn := newDiscoveryUnrest(p, p.clusters, proxies)
	if err := churn.run(ctx, propagateRate, propagateWarmUp); err != nil {
		return result{}, err
	}
	if err := p.await(ctx, "all proxies know", func() (bool, error) { return proxies.missing() == 0, nil }); err != nil {
		return result{}, err
	}
	proxies.forget()
	before, err := p.processor()
	if err != nil {
		return result{}, err
	}
	own, start := processorTime(), time.Now()
	if err := p.observe(ctx, propagateFor, func() error { return churn.run(ctx, propagateRate, propagateFor) }); err != nil {
		return result{}, err
	}
	after, err := p.processor()
	if err != nil {
		return result{}, err
	}
	wall := time.Since(start).Seconds()
	fmt.Fprintf(out, "%d changes in %.1f s; processor: controller %.2f cores, clusters and proxies %.2f cores\n",
		churn.made, wall, (after-before).Seconds()/wall, (processorTime()-own).Seconds()/wall)
	fmt.Fprintf(out, "each proxy was told %.1f times a second\n", proxies.told()/wall)
	// Every proxy must come to know every pod's last state.
	if err := p.await(ctx, "all proxies know", func() (bool, error) {
		n := proxies.missing()
		return n == 0, fmt.Errorf("%d changes are not known", n)
	}); err != nil {
		return result{}, err
	}
	resident, err := p.resident()
	if err != nil {
		return result{}, err
	}
	fmt.Fprintf(out, "the controller holds %.0f MB\n", resident)
	local, remote := proxies.delays()
	fmt.Fprintf(out, "seen: %d local, %d remote\n", len(local), len(remote))
	if len(local) == 0 || len(remote) == 0 {
		return result{}, errors.New("no change was seen")
	}
	for _, q := range []float64{10, 25, 50, 75, 90, 95, 99} {
		fmt.Fprintf(out, "p%v local %.1f remote %.1f\n", q, percentile(local, q).Seconds()*1e3, percentile(remote, q).Seconds()*1e3)
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	return absolute(out,
		figure{What: "local change, median", Unit: "ms", Ours: ms(percentile(local, 50)), Goal: 10},
		figure{What: "local change, 99th percentile", Unit: "ms", Ours: ms(percentile(local, 99)), Goal: 100},
		figure{What: "remote change, 99th percentile", Unit: "ms", Ours: ms(percentile(remote, 99)), Goal: 250},
	), nil
}

// discoveryUnrest makes pods unready and ready again: the first pod of each service of each cluster in turn, so that a service of a
// cluster rests for about discoveryServices × clusters / rate seconds between two changes and the last one is always the one that counts.
//
// Each round goes through the clusters in another order. In the same order a cluster would change every 100 ms, as often as the controller reads the others (world.Beat): all of a
// run's local changes would come at one moment of the beat, and the median be that of this moment, whichever it happens to be.
type discoveryUnrest struct {
	plane    *discoveryPlane
	clusters []*fleet.Cluster
	order    []*fleet.Cluster // what is left of this round
	random   *rand.Rand
	proxies  *discoveryProxies
	made     int
	turns    map[*fleet.Cluster]int // changes of each
}

func newDiscoveryUnrest(p *discoveryPlane, clusters []*fleet.Cluster, proxies *discoveryProxies) *discoveryUnrest {
	return &discoveryUnrest{plane: p, clusters: clusters, proxies: proxies, random: rand.New(rand.NewPCG(1, 2)), turns: map[*fleet.Cluster]int{}}
}

func (c *discoveryUnrest) run(ctx context.Context, rate int, d time.Duration) error {
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

func (c *discoveryUnrest) next() error {
	if len(c.order) == 0 {
		c.order = slices.Clone(c.clusters)
		c.random.Shuffle(len(c.order), func(i, j int) { c.order[i], c.order[j] = c.order[j], c.order[i] })
	}
	cluster := c.order[0]
	c.order = c.order[1:]
	c.made++
	turn := c.turns[cluster]
	c.turns[cluster]++
	pod, ready := turn%discoveryServices, turn/discoveryServices%2 == 1
	name := cluster.Service(pod)
	change := discoveryChange{id: c.made, local: cluster == c.plane.local(), at: time.Now(), healthy: ready}
	var key news
	if change.local {
		key.uid = cluster.ID + "//Pod/" + cluster.PodName(pod).String()
	} else {
		key = news{network: cluster.ID, service: mesh.ServiceKey{Namespace: name.Namespace, Hostname: name.Name + "." + name.Namespace + ".svc.cluster.local"}}
		change.capacity = uint32((discoveryEndpoints - pod + discoveryServices - 1) / discoveryServices)
		if !ready {
			change.capacity--
		}
	}
	c.proxies.expect(key, change)
	return cluster.Flip(pod, ready)
}
