// SPDX-License-Identifier: Apache-2.0

package hbone

import (
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
	heap, stack := hostile.Memory()
	if leastStack == 0 || stack < leastStack {
		leastStack = stack
	}
	return heap + leastStack
}

// memoryHeld is what this process holds while nobody is at work, in bytes: neither the enemy nor the good client, which keep what they have.
func memoryHeld(t *testing.T, enemy *hostile.Enemy, good *goodClient) (held int64) {
	t.Helper()
	good.rest.Lock()
	defer good.rest.Unlock()
	if err := enemy.Pause(func() {
		heap, stack := hostile.Memory()
		held = heap + stack
	}); err != nil {
		t.Fatal(err)
	}
	return held
}
