// SPDX-License-Identifier: Apache-2.0

package processors

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestNeedsAll has what is decided of one look.
func TestNeedsAll(t *testing.T) {
	for name, c := range map[string]struct {
		all    bool
		share  float64
		behind time.Duration
		want   bool
	}{
		"idle, with all":                             {all: true, share: 0, want: false},
		"little, with all":                           {all: true, share: 0.34, want: false},
		"neither little nor much, with all":          {all: true, share: 0.4, want: true},
		"much, with all":                             {all: true, share: 1.8, want: true},
		"late, with all: they are no more":           {all: true, share: 0.1, behind: time.Second, want: false},
		"idle, with one":                             {share: 0, want: false},
		"neither little nor much, with one":          {share: 0.4, want: false},
		"much, with one":                             {share: 0.5, want: true},
		"not much, but what is to be done waits":     {share: 0.2, behind: late, want: true},
		"not much, and woken as late as machines do": {share: 0.2, behind: time.Millisecond, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := needsAll(c.all, time.Duration(c.share*float64(time.Second)), time.Second, c.behind); got != c.want {
				t.Errorf("all: %v, want %v", got, c.want)
			}
		})
	}
}

// TestFollow has a process that does little, much, and little again, and one that ends.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // over the three below
		began, spent, load := time.Now(), time.Duration(0), 0.1
		used := func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			spent += time.Duration(load * float64(now.Sub(began)))
			began = now
			return spent
		}
		now := func(share float64) {
			used() // what was until now is at the load that was
			mu.Lock()
			defer mu.Unlock()
			load = share
		}
		var all atomic.Bool
		var memory atomic.Uint64
		all.Store(true)
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			follow(ctx, used, memory.Load, all.Store)
			close(ended)
		}()
		after := func(d time.Duration, want bool, why string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if all.Load() != want {
				t.Errorf("%s: all processors: %v, want %v", why, !want, want)
			}
		}
		after(calm-time.Millisecond, true, "at start")
		after(time.Millisecond, false, "after a second with little to do")
		after(time.Minute, false, "after a minute with little to do")
		now(0.9)
		after(soon, true, "50 ms after a burst began")
		after(time.Minute, true, "after a minute of load")
		now(0.4)
		after(time.Minute, true, "with what might be too much for one")
		now(0.1)
		after(calm, false, "a second after the load ended")
		memory.Store(much + 1)
		after(soon, true, "50 ms after it had much to collect")
		after(time.Minute, true, "as long as it has")
		memory.Store(much)
		after(calm, false, "a second after it had not")
		end()
		<-ended
		if !all.Load() {
			t.Error("one processor is left to a process that is no longer followed")
		}
	})
}

// TestFollowWaitsForTheChange has a change that takes long, as the runtime makes none while it collects garbage: to be late by that is no sign of load.
func TestFollowWaitsForTheChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []bool
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			follow(ctx, func() time.Duration { return 0 }, func() uint64 { return 0 }, func(all bool) {
				changes = append(changes, all)
				time.Sleep(300 * time.Millisecond)
			})
			close(ended)
		}()
		time.Sleep(time.Minute)
		end()
		<-ended
		if want := []bool{false, true}; !slices.Equal(changes, want) {
			t.Errorf("given all processors: %v, want %v", changes, want)
		}
	})
}

// TestFollowThisProcess has a process with real load.
func TestFollowThisProcess(t *testing.T) {
	t.Setenv("GOMAXPROCS", "") // or it would be left as it is
	was := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
	runtime.SetDefaultGOMAXPROCS()      // whatever the environment said, or -cpu
	processors := runtime.GOMAXPROCS(0) // with a single one all of this holds, too, and says little
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		Follow(ctx)
		close(ended)
	}()
	until := func(want int, meanwhile func()) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); runtime.GOMAXPROCS(0) != want; meanwhile() {
			if time.Now().After(deadline) {
				t.Fatalf("%d processors after a minute, want %d", runtime.GOMAXPROCS(0), want)
			}
		}
	}
	until(1, func() { time.Sleep(10 * time.Millisecond) })
	until(processors, func() {
		for began := time.Now(); time.Since(began) < 10*time.Millisecond; {
			runtime.Gosched()
		}
	})
	end()
	<-ended
	if got := runtime.GOMAXPROCS(0); got != processors {
		t.Errorf("%d processors in the end, want %d", got, processors)
	}
}

// TestScanned: what the runtime tells grows with what is in use.
func TestScanned(t *testing.T) {
	runtime.GC() // what is told is as of the last one
	before := scanned()
	kept := make([]*[1 << 10]*byte, 1<<10) // 8 MiB of pointers
	for i := range kept {
		kept[i] = new([1 << 10]*byte)
	}
	runtime.GC()
	if after := scanned(); after < before+6<<20 || after > before+64<<20 {
		t.Errorf("with 8 MiB more in use, %d bytes are looked at, and %d before", after, before)
	}
	runtime.KeepAlive(kept)
}

// TestFollowLeavesWhatIsSet has a process whose user has set GOMAXPROCS.
func TestFollowLeavesWhatIsSet(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2")
	Follow(t.Context()) // returns, for there is nothing to follow
}
