// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// memoryNoise is by how much two measurements of the same may differ, in bytes: what is on its way when everybody is told to stop, and spans of the
// heap and stacks that are used by half.
const memoryNoise = 512 << 10

// leastStack is the least stack memory that was ever seen: stacks of goroutines that are gone are given up over many collections only.
var leastStack int64

// memoryFloor is what the process holds before there is anybody, in bytes.
func memoryFloor() int64 {
	heap, stack := memoryInUse()
	if leastStack == 0 || stack < leastStack {
		leastStack = stack
	}
	return heap + leastStack
}

// memoryInUse is what the process holds on its heap and its stacks, in bytes. It collects garbage until that gives nothing more: pools are emptied in
// two rounds, and what was allocated during a round counts as used in it. What was allocated after the round does not: a victim that still works off what
// came before the enemy paused leaves megabytes of garbage between a round and a look at HeapAlloc.
func memoryInUse() (heap, stack int64) {
	for idle := 0; idle < 3; idle++ {
		runtime.GC()
		inUse := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
		metrics.Read(inUse)
		if h := int64(inUse[0].Value.Uint64()); heap == 0 || h < heap-4<<10 {
			heap, idle = h, 0
		}
		stack = int64(inUse[1].Value.Uint64())
	}
	return heap, stack
}

// memoryHeld is what this process holds while nobody is at work, in bytes: neither the enemy nor the good client, which keep what they have.
func memoryHeld(t *testing.T, enemy *hostile.Enemy, good *goodClient) (held int64) {
	t.Helper()
	good.rest.Lock()
	defer good.rest.Unlock()
	if err := enemy.Pause(func() {
		heap, stack := memoryInUse()
		held = heap + stack
	}); err != nil {
		t.Fatal(err)
	}
	return held
}
