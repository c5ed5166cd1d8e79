// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestAllAreWokenWhileOthersCompute has twice as many goroutines compute as there are processors, as translations and the reading of other clusters do. Who wakes gets a processor back
// when one of them has had it for 10 ms, and must not wait for that again and again. What counts is this process's time, as the machine may be busy with other tests.
func TestAllAreWokenWhileOthersCompute(t *testing.T) {
	const clients, processors, most = 1000, 2, 700 * time.Millisecond
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
	var r rouser
	var running, ready, woken, busy sync.WaitGroup
	subs := make([]*subscriber, clients)
	for i := range subs {
		sub := &subscriber{wake: make(chan struct{}, 1)}
		subs[i] = sub
		ready.Add(1)
		woken.Go(func() {
			ready.Done()
			<-sub.wake
		})
	}
	ready.Wait()
	var stop atomic.Bool
	for range 2 * processors {
		ready.Add(1)
		busy.Go(func() {
			ready.Done()
			for !stop.Load() {
			}
		})
	}
	ready.Wait()

	before := processTime(t)
	r.all(subs, &running)
	running.Wait()
	took := processTime(t) - before
	stop.Store(true)
	busy.Wait()
	woken.Wait()
	if took > most {
		t.Errorf("it took %v of the process's time to wake %d", took, clients)
	}
}

// processTime is how long processors have worked for this process.
func processTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
