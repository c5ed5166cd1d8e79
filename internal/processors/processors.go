// SPDX-License-Identifier: Apache-2.0

package processors

import (
	"context"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// soon is how often a process with one processor is asked whether it needs more, and so how long a burst has to wait for them.
	soon = 50 * time.Millisecond
	// calm is how often one with all processors is asked whether one would do. Garbage collections of a proxy last less, so they do not make it go back and forth.
	calm = time.Second
	// busy is the part of one processor's time from which on it is not enough. At half, who comes waits half of one's service on the average (M/D/1), some 40 µs at
	// a proxy, which is about what the waking of another thread takes.
	busy = 0.5
	// quiet is the part of one processor's time below which all of them are too many. The same work takes up to 1.7 times as long with several (node-cost: 0.25 and
	// 0.145 cores), so this is at most 0.35 with one, well below busy.
	quiet = 0.35
	// late is how late one is asked if the one processor has more to do than it gets: others on the machine may leave it less than busy. It is half of what
	// Go's scheduler lets a goroutine have at a time.
	late = 5 * time.Millisecond
	// much is how many bytes a garbage collection may have to look at if there is one processor. The runtime does not change their number while it collects, in which it takes a quarter of
	// the time that there is: at some 1 GB/s of a whole processor, this much is looked at in 0.13 s.
	much = 32 << 20
)

// Follow gives the process one processor or all, by what it uses, until ctx ends; then it has all. "All" is what the runtime gives by default: those of the machine
// that the process may run on, no more than its cgroup's limit. If the environment has GOMAXPROCS, whoever set it has decided, and Follow does nothing; nor does it if a seccomp profile
// does not let it see what the process has used.
//
// The process must not set GOMAXPROCS itself meanwhile.
func Follow(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") != "" || runtime.GOMAXPROCS(0) == 1 {
		return
	}
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, new(unix.Timespec)) != nil {
		return
	}
	follow(ctx, used, scanned, func(all bool) {
		if all {
			runtime.SetDefaultGOMAXPROCS()
		} else {
			runtime.GOMAXPROCS(1)
		}
	})
}

// used is the processor's time that the process has used.
func used() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) != nil {
		return 0 // cannot fail after it has succeeded once: a seccomp profile does not come later
	}
	return time.Duration(t.Nano())
}

// scanned is how many bytes the garbage collector has to look at.
func scanned() uint64 {
	size := []metrics.Sample{{Name: "/gc/scan/total:bytes"}}
	metrics.Read(size)
	if size[0].Value.Kind() != metrics.KindUint64 {
		return 0 // a runtime that does not tell
	}
	return size[0].Value.Uint64()
}

// follow begins with all processors, because a process that starts has much to do, and calls set for each change.
func follow(ctx context.Context, used func() time.Duration, scanned func() uint64, set func(all bool)) {
	all := true
	wait := time.NewTimer(calm)
	defer wait.Stop()
	last, spent := time.Now(), used()
	every := calm
	for {
		select {
		case <-ctx.Done():
			if !all {
				set(true)
			}
			return
		case <-wait.C:
		}
		now, total := time.Now(), used()
		elapsed := now.Sub(last)
		if want := scanned() > much || needsAll(all, total-spent, elapsed, elapsed-every); want != all {
			all = want
			set(all)
			now, total = time.Now(), used() // it waits for a garbage collection that runs, which says nothing of what comes after it
		}
		every = soon
		if all {
			every = calm
		}
		last, spent = now, total
		wait.Reset(every)
	}
}

// needsAll is whether the process shall have all processors, after it used so much of a time that ended so late.
func needsAll(all bool, used, elapsed, behind time.Duration) bool {
	share := float64(used) / float64(max(elapsed, 1))
	if all {
		return share >= quiet
	}
	return share >= busy || behind >= late
}
