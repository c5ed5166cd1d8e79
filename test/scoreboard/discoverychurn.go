// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// churns is how often a cluster is added, given another credential, and removed.
	churns = 1000
	// churnLanes are clusters that come and go at the same time.
	churnLanes = 8
	// churnWarmUp is how often each lane does so before what is there is counted.
	churnWarmUp = 12
	// churnMemory is by how many bytes the heap may differ, after a collection, without anything having leaked: maps keep their buckets.
	churnMemory = 1 << 20
	// churnPatience is how long one step may take.
	churnPatience = 60 * time.Second
)

// discoveryChurn adds, rotates and removes remote clusters and counts what is left of them in a control plane that does nothing else: real
// API servers, a Secret and a RemoteCluster for each, and a proxy that sees every watch on the wire.
func discoveryChurn(ctx context.Context, out io.Writer) (result, error) {
	stage, err := newChurnStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer stage.close()
	round := func(cycles int) error {
		group, groupCtx := newGroup(ctx)
		var next atomic.Int64
		for i := range churnLanes {
			group.start(func() error {
				for {
					n := int(next.Add(1))
					if n > cycles {
						return nil
					}
					if err := stage.cycle(groupCtx, i); err != nil {
						return fmt.Errorf("cycle %d: %w", n, err)
					}
					if n%100 == 0 {
						fmt.Fprintf(out, "%d of %d added, rotated and removed\n", n, cycles)
					}
				}
			})
		}
		return group.wait()
	}
	if err := round(churnLanes * churnWarmUp); err != nil {
		return result{}, err
	}
	before, err := stage.settled(ctx, nil)
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	if err := round(churns); err != nil {
		return result{}, err
	}
	took := time.Since(began)
	after, err := stage.settled(ctx, &before)
	if err != nil {
		return result{}, err
	}
	fmt.Fprintf(out, "%d added, rotated and removed in %s; %d rotations broke before they made\n", churns, took.Round(time.Second), stage.gaps.Load())
	more := func(now, then int) float64 { return float64(max(now-then, 0)) }
	leaks := more(after.Goroutines, before.Goroutines) + more(after.Descriptors, before.Descriptors) + float64(after.Watches) +
		more(after.Resources, before.Resources) + float64(after.Objects) + float64(stage.gaps.Load())
	return absolute(out,
		figure{What: "leaks of all sorts together", Unit: "leaks", Ours: leaks, Goal: 0},
		figure{What: "goroutines more than before", Unit: "goroutines", Ours: more(after.Goroutines, before.Goroutines), Goal: 0},
		figure{What: "descriptors more than before", Unit: "descriptors", Ours: more(after.Descriptors, before.Descriptors), Goal: 0},
		figure{What: "watches open on the wire", Unit: "watches", Ours: float64(after.Watches), Goal: 0},
		figure{What: "resources that proxies are still told of", Unit: "resources", Ours: more(after.Resources, before.Resources), Goal: 0},
		figure{What: "RemoteClusters left", Unit: "objects", Ours: float64(after.Objects), Goal: 0},
		figure{What: "rotations that broke before they made", Unit: "rotations", Ours: float64(stage.gaps.Load()), Goal: 0},
		figure{What: "heap more than before", Unit: "KiB", Ours: more(after.Heap, before.Heap) / 1024, Goal: churnMemory / 1024},
	), nil
}

// group runs functions until one fails.
type group struct {
	running sync.WaitGroup
	cancel  context.CancelCauseFunc
	ctx     context.Context
}

func newGroup(ctx context.Context) (*group, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &group{cancel: cancel, ctx: ctx}, ctx
}

func (g *group) start(f func() error) {
	g.running.Go(func() {
		if err := f(); err != nil {
			g.cancel(err)
		}
	})
}

func (g *group) wait() error {
	g.running.Wait()
	err := context.Cause(g.ctx)
	g.cancel(nil)
	return err
}
