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
	alone, all, err := discoveryRemotes(ctx, out, func(*discoveryUnrest) error { return nil })
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
	var bare float64
	alone, all, err := discoveryRemotes(ctx, out, func(c *discoveryUnrest) (err error) {
		bare, err = c.bare(ctx)
		return err
	})
	if err != nil {
		return result{}, err
	}
	fmt.Fprintf(out, "a process that only reads the watches: %.3f %% of a core for each remote cluster\n", bare)
	known := publishedShare
	return absolute(out, figure{
		What: "processor for each remote cluster", Unit: "% of a core", Ours: (all.share - alone.share) / (discoveryClusters - 1),
		Control: &known, Against: "published of istiod", Goal: remoteShare,
	}), nil
}

// discoveryRemotes measures the controller with its own cluster alone, then with all the others, while each cluster changes. One proxy
// is connected, so that what is read is also told. more is called while all are there.
func discoveryRemotes(ctx context.Context, out io.Writer, more func(*discoveryUnrest) error) (alone, all remoteCost, err error) {
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
	if all, err = churn.cost(ctx, out); err != nil {
		return alone, all, err
	}
	return alone, all, more(churn)
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
	cost := remoteCost{resident: median(resident), share: c.share(after-before, made)}
	fmt.Fprintf(out, "%d clusters: %.0f MB (%.0f at most), %.2f %% of a core at %d changes/s; %d changes were made, of %.0f\n",
		clusters, cost.resident, percentile(resident, 100), cost.share, remoteRate*clusters, made, c.wanted())
	return cost, c.plane.await(ctx, "the proxy knows", func() (bool, error) { return c.proxies.missing() == 0, nil })
}

// wanted is how many changes are to be made in remoteFor.
func (c *discoveryUnrest) wanted() float64 {
	return remoteFor.Seconds() * remoteRate * float64(len(c.clusters))
}

// share is what a process that spent so much of the processor in remoteFor, in which so many changes were made, takes of a core, in percent. A machine that is too busy to make
// all changes has made less work for the process too: the share is as if all had been made.
func (c *discoveryUnrest) share(spent time.Duration, made int) float64 {
	return 100 * spent.Seconds() / remoteFor.Seconds() * c.wanted() / float64(made)
}

// bare is what each remote cluster costs a process that reads of it what the controller does, and does nothing else, in percent of a core.
func (c *discoveryUnrest) bare(ctx context.Context) (_ float64, err error) {
	remote := c.clusters[1:]
	reader, err := startBareReader(ctx, c.plane.dir, remote)
	if err != nil {
		return 0, err
	}
	defer reader.stop()
	if err := c.run(ctx, remoteRate*len(c.clusters), remoteSettle); err != nil {
		return 0, err
	}
	before, err := processorOf(reader.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	made := c.made
	if err := c.run(ctx, remoteRate*len(c.clusters), remoteFor); err != nil {
		return 0, err
	}
	after, err := processorOf(reader.cmd.Process.Pid)
	return c.share(after-before, c.made-made) / float64(len(remote)), err
}
