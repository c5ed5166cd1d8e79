// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// collectAt is how much the heap grows, in percent of what is in use, before garbage is collected. Nearly all of the heap are caches that
	// live as long as the process: half of Go's usual 100 takes a quarter off the memory of a remote cluster, for no processor time that could be measured.
	collectAt = 50
	// collectAtStart counts until proxies are answered. Everything that is read then stays, so what a collection looks at is looked at again by the
	// next: with collectAt they take a third of the processor time of a start with ten clusters (discovery-boot, 6.9 s against 4.4 s).
	collectAtStart = 400
	// startRoom is the heap, in bytes, from which on collectAt counts all the same: a start is not to take more memory than a world of 100,000 endpoints
	// does (discovery-big).
	startRoom = 512 << 20
	// startLook is how often the heap is looked at: in that time a start reads some 20 MB.
	startLook = 50 * time.Millisecond
)

// collector says how often garbage is collected: seldom while the process starts, often when it holds what it will hold. GOGC in the environment counts instead of
// both; GOMEMLIMIT bounds both.
type collector struct {
	percent func(int) int // debug.SetGCPercent
	release func()        // debug.FreeOSMemory
	heap    func() uint64 // what the heap takes, in bytes
}

func newCollector() collector {
	return collector{percent: debug.SetGCPercent, release: debug.FreeOSMemory, heap: heapNow}
}

// start is called first of all. It gives what is to be called when proxies are answered, once; until ctx ends, the heap is watched.
func (c collector) start(ctx context.Context) (answering func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	c.percent(collectAtStart)
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.watch(ctx)
	}()
	return func() {
		stop()
		<-ended
		c.percent(collectAt)
		c.release()
	}
}

// watch returns when the heap has outgrown startRoom, or ctx ended.
func (c collector) watch(ctx context.Context) {
	tick := time.NewTicker(startLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if c.heap() > startRoom {
				c.percent(collectAt)
				return
			}
		}
	}
}

func heapNow() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
