// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestCollector follows a process that starts: seldom, then often; at once if the heap outgrows what a start may take; never anything else than the
// environment says.
func TestCollector(t *testing.T) {
	for _, test := range []struct {
		name string
		gogc string
		heap uint64
		want []int // percents, in order
	}{
		{"a small world", "", startRoom, []int{collectAtStart, collectAt}},
		{"a world that is too large for that", "", startRoom + 1, []int{collectAtStart, collectAt, collectAt}},
		{"the environment counts", "77", startRoom + 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOGC", test.gogc)
			synctest.Test(t, func(t *testing.T) {
				var said []int
				var released atomic.Int64
				c := collector{
					percent: func(p int) int { said = append(said, p); return 0 },
					release: func() { released.Add(1) },
					heap:    func() uint64 { return test.heap },
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				answering := c.start(ctx)
				time.Sleep(3 * startLook) // of the bubble
				synctest.Wait()
				answering()
				if !slices.Equal(said, test.want) {
					t.Errorf("percents %v, want %v", said, test.want)
				}
				if want := int64(min(len(test.want), 1)); released.Load() != want {
					t.Errorf("memory was released %d times, want %d", released.Load(), want)
				}
			})
		})
	}
}

func TestHeapNow(t *testing.T) {
	if n := heapNow(); n < 1<<16 || n > 1<<40 {
		t.Errorf("a heap of %d bytes", n)
	}
}
