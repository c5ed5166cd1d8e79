// SPDX-License-Identifier: Apache-2.0

package relay

import "testing"

// TestLargestBuffersAreBounded takes as many as there may be: the next one has to go on with what it has, until one comes back.
func TestLargestBuffersAreBounded(t *testing.T) {
	last := len(steps) - 1
	for range steps[last].most {
		b := getBuffer(last)
		if b == nil || len(*b) != steps[last].size {
			t.Fatalf("no buffer of %d bytes", steps[last].size)
		}
		defer putBuffer(last, b)
	}
	if getBuffer(last) != nil {
		t.Error("one more than there may be")
	}
	b := make([]byte, steps[last].size)
	putBuffer(last, &b)
	if got := getBuffer(last); got == nil {
		t.Error("one came back, and nobody gets it")
	}
}
