// SPDX-License-Identifier: Apache-2.0

package hbone

import "sync/atomic"

// streamInflow is the window that we granted to the peer on one stream. Guarded by the stream's mu.
type streamInflow struct {
	avail int64 // what the peer may still send
	taken int64 // what was read here and not yet granted again
}

// take books n received bytes and says whether the peer was allowed to send them.
func (f *streamInflow) take(n int64) bool {
	if n > f.avail {
		return false
	}
	f.avail -= n
	return true
}

// give books n bytes that were read and returns the increment to announce now, or 0 to wait for more.
func (f *streamInflow) give(n int64, window uint32) uint32 {
	f.taken += n
	if f.taken < announceAt(window) {
		return 0
	}
	inc := f.taken
	f.avail += inc
	f.taken = 0
	return uint32(inc)
}

// connInflow is the same for a connection. Its users hold no common lock, so it is atomic: the holder of the seat takes, readers of streams give.
type connInflow struct {
	avail atomic.Int64
	taken atomic.Int64
}

func (f *connInflow) take(n int64) bool {
	// Only the holder of the seat lowers avail, so it cannot fall between the two steps.
	if n > f.avail.Load() {
		return false
	}
	f.avail.Add(-n)
	return true
}

func (f *connInflow) give(n int64, window uint32) uint32 {
	// What other streams leave unread may be more than three quarters of the window. Then that much never comes back, and the rest has to be renewed in smaller
	// pieces, or it ends.
	if taken := f.taken.Add(n); taken < announceAt(window) && taken <= f.avail.Load() {
		return 0
	}
	inc := f.taken.Swap(0)
	f.avail.Add(inc) // before the frame is queued, hence before the peer can use it
	return uint32(inc)
}

// announceAt is how many bytes gather before a WINDOW_UPDATE: a quarter of the window, so that the peer never sees less than three
// quarters of it while the reader keeps up, at one small frame per MiB with the default.
func announceAt(window uint32) int64 { return max(int64(window)/4, 1) }
