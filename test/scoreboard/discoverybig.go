// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	bigEndpoints = 100_000
	bigChanges   = 20_000 // of one endpoint each, for every size of the world
	bigBuilds    = 5

	bigApplyGoal  = 50.0  // µs for one change
	bigGrowthGoal = 2.0   // how much longer a change may take in the biggest world, of 100 times the size: it should not depend on that, and the rest is noise
	bigBuildGoal  = 2.0   // s
	bigMemoryGoal = 600.0 // MB
)

// discoveryBig measures what a change of one endpoint costs the translation in worlds of 1,000, 10,000 and 100,000 endpoints, and in the
// biggest a whole build, and the memory of store, engine and answer together at its peak.
//
// A change is timed by the wall and is short against a time slice, so a median of many is little disturbed by other load. A build is not:
// its figure is the processor time of the whole process, which is no less than the wall time on a machine that is idle, for it includes
// the garbage collector's, which works on another core.
func discoveryBig(ctx context.Context, out io.Writer) (result, error) {
	// The biggest first: the peak of memory must be its own.
	var applied []figure
	big := newBigWorld(bigEndpoints)
	store := big.store()
	delta, err := store.Take(ctx)
	if err != nil {
		return result{}, err
	}
	services := len(delta.Services)
	engine := translate.NewEngine(bigConfig)
	took, err := spend(func() error { engine.Apply(delta); return nil })
	if err != nil {
		return result{}, err
	}
	delta = world.Delta{}
	fmt.Fprintf(out, "%d endpoints, %d services: the engine took them in within %.2f s, %.2f s of processor time\n", bigEndpoints, services, took.wall.Seconds(), took.processor.Seconds())
	medians := map[int]float64{}
	measure := func(size int, w *bigWorld, e *translate.Engine) error {
		local, err := changes(ctx, e, w.local)
		if err != nil {
			return err
		}
		remote, err := changes(ctx, e, w.remote)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d endpoints: a change of one takes %.1f µs in our own cluster, %.1f µs in another one (medians)\n", size, local, remote)
		medians[size] = max(local, remote)
		applied = append(applied, figure{What: fmt.Sprintf("a change among %d endpoints", size), Unit: "µs", Ours: medians[size], Goal: bigApplyGoal})
		return nil
	}
	if err := measure(bigEndpoints, big, engine); err != nil {
		return result{}, err
	}
	runtime.KeepAlive(store)
	peak, err := peakMemory()
	if err != nil {
		return result{}, err
	}

	debug.FreeOSMemory()
	state := world.NewState()
	whole := world.NewDelta()
	for _, o := range big.objects {
		whole.Put(o)
	}
	state.Apply(whole)
	var builds []float64
	for range bigBuilds {
		took, err := spend(func() error {
			if got := len(translate.Build(state, bigConfig).Mesh.Workloads); got < bigEndpoints/2 {
				return fmt.Errorf("the answer has %d workloads only", got)
			}
			return ctx.Err()
		})
		if err != nil {
			return result{}, err
		}
		fmt.Fprintf(out, "a whole build took %.2f s, %.2f s of processor time\n", took.wall.Seconds(), took.processor.Seconds())
		builds = append(builds, took.processor.Seconds())
	}

	for _, size := range []int{bigEndpoints / 10, bigEndpoints / 100} {
		w := newBigWorld(size)
		e := translate.NewEngine(bigConfig)
		delta, err := w.store().Take(ctx)
		if err != nil {
			return result{}, err
		}
		e.Apply(delta)
		if err := measure(size, w, e); err != nil {
			return result{}, err
		}
	}
	small := medians[bigEndpoints/100]
	figures := append(applied,
		atMost("a change in the biggest world", "µs", medians[bigEndpoints], small, "the smallest world", bigGrowthGoal),
		figure{What: "a whole build, processor time", Unit: "s", Ours: median(builds), Goal: bigBuildGoal},
		figure{What: "memory at its peak", Unit: "MB", Ours: peak, Goal: bigMemoryGoal},
	)
	return absolute(out, figures...), nil
}

// changes applies changes of one endpoint each and gives the median of what one takes, in µs.
func changes(ctx context.Context, e *translate.Engine, among []*world.Pod) (float64, error) {
	took := make([]float64, 0, bigChanges)
	for range bigChanges {
		d := flip(among)
		began := time.Now()
		change := e.Apply(d)
		took = append(took, float64(time.Since(began).Nanoseconds())/1e3)
		if change.Mesh.Len() != 1 {
			return 0, fmt.Errorf("one endpoint changed %d values of the answer, not 1", change.Mesh.Len())
		}
	}
	return median(took), ctx.Err()
}

// peakMemory is the most memory that this process had resident so far, in MB.
func peakMemory() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
