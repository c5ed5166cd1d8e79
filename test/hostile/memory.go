// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"runtime"
	"runtime/metrics"
	"time"
)

const (
	// busy is how many bytes are allocated during a collection while somebody still works. A process in which all wait allocates a few KiB for the
	// collection itself and for timers.
	busy = 64 << 10
	// maxBusy is how long somebody may go on working before the memory is taken as it is.
	maxBusy = 30 * time.Second
)

// Memory is what this process holds on its heap and its stacks, in bytes. It collects garbage until that gives nothing more, because pools are emptied in two
// rounds. The heap is what a round found alive; whatever is allocated while a round runs counts as alive, too, so a round in which the attacked still
// works off what came before its enemy paused is not the last one.
func Memory() (heap, stacks int64) {
	read := func() (live, stacks, allocated int64) {
		s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64()), int64(s[1].Value.Uint64()), int64(s[2].Value.Uint64())
	}
	end := time.Now().Add(maxBusy)
	_, _, before := read()
	for idle := 0; idle < 3; idle++ {
		runtime.GC()
		live, stack, allocated := read()
		if heap == 0 || live < heap-4<<10 {
			heap, idle = live, 0
		}
		if allocated-before > busy && time.Now().Before(end) {
			idle = 0
		}
		stacks, before = stack, allocated
	}
	return heap, stacks
}
