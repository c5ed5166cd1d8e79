// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"
)

const (
	remoteRate     = 10               // changes a second of each cluster
	remoteSettle   = 20 * time.Second // of changes before anything is measured
	remoteFor      = 30 * time.Second
	remoteMemory   = 15.0 // MB for each remote cluster, at most
	remoteShare    = 0.2  // percent of a core for each remote cluster, at most
	publishedMB    = 180.0
	publishedShare = 1.0
)

// remoteCost is what the controller takes.
type remoteCost struct {
	resident float64 // MB, the median
	share    float64 // percent of a core
}

func discoveryRemoteMemory(ctx context.Context, out io.Writer) (result, error) {
	alone, all, err := discoveryRemotes(ctx, out)
	if err != nil {
		return result{}, err
	}
	known := publishedMB
	return absolute(out, figure{
		What: "memory of each remote cluster", Unit: "MB", Ours: (all.resident - alone.resident) / (discoveryClusters - 1),
		Control: &known, Against: "published of istiod", Goal: remoteMemory,
	}), nil
}

func discoveryRemoteProcessor(ctx context.Context, out io.Writer) (result, error) {
	alone, all, err := discoveryRemotes(ctx, out)
	if err != nil {
		return result{}, err
	}
	known := publishedShare
	return absolute(out, figure{
		What: "processor for each remote cluster", Unit: "% of a core", Ours: (all.share - alone.share) / (discoveryClusters - 1),
		Control: &known, Against: "published of istiod", Goal: remoteShare,
	}), nil
}

// discoveryRemotes measures the controller with its own cluster alone, then with all the others, while each cluster changes. One proxy
// is connected, so that what is read is also told.
func discoveryRemotes(ctx context.Context, out io.Writer) (alone, all remoteCost, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(propagateQuiet))
	p, err := newDiscoveryPlane(ctx, discoveryClusters)
	if err != nil {
		return alone, all, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.start(ctx); err != nil {
		return alone, all, err
	}
	if err := p.awaitReady(ctx); err != nil {
		return alone, all, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	proxies, err := p.connect(ctx, &running, 1)
	if err != nil {
		return alone, all, err
	}
	churn := newDiscoveryUnrest(p, p.clusters[:1], proxies)
	if alone, err = churn.cost(ctx, out); err != nil {
		return alone, all, err
	}
	if err := p.join(1, discoveryClusters); err != nil {
		return alone, all, err
	}
	for _, c := range p.clusters[1:] {
		if err := p.awaitRemote(ctx, c); err != nil {
			return alone, all, err
		}
	}
	churn.clusters = p.clusters
	all, err = churn.cost(ctx, out)
	return alone, all, err
}

// cost measures the controller while the clusters change.
func (c *discoveryUnrest) cost(ctx context.Context, out io.Writer) (remoteCost, error) {
	clusters := len(c.clusters)
	if err := c.run(ctx, remoteRate*clusters, remoteSettle); err != nil {
		return remoteCost{}, err
	}
	before, err := c.plane.processor()
	if err != nil {
		return remoteCost{}, err
	}
	made := c.made
	var resident []float64
	err = c.plane.observe(ctx, remoteFor, func() error {
		for began := time.Now(); time.Since(began) < remoteFor; {
			if err := c.run(ctx, remoteRate*clusters, time.Second); err != nil {
				return err
			}
			r, err := c.plane.resident()
			if err != nil {
				return err
			}
			resident = append(resident, r)
		}
		return nil
	})
	if err != nil {
		return remoteCost{}, err
	}
	after, err := c.plane.processor()
	if err != nil {
		return remoteCost{}, err
	}
	made = c.made - made
	// A machine that is too busy to make all changes has made less work for the controller too: the share is per change that was made.
	wanted := remoteFor.Seconds() * remoteRate * float64(clusters)
	cost := remoteCost{resident: median(resident), share: 100 * (after - before).Seconds() / remoteFor.Seconds() * wanted / float64(made)}
	fmt.Fprintf(out, "%d clusters: %.0f MB (%.0f at most), %.2f %% of a core at %d changes/s; %d changes were made, of %.0f\n",
		clusters, cost.resident, percentile(resident, 100), cost.share, remoteRate*clusters, made, wanted)
	return cost, c.plane.await(ctx, "the proxy knows", func() (bool, error) { return c.proxies.missing() == 0, nil })
}
