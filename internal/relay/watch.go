// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// stall is how long the bytes that came before a reset may make no way at all before they are given up. 10 s is time enough for a full buffer at
// 26 kB/s; nobody is owed the bytes before a reset.
const stall = 10 * time.Second

// resettable is a Conn that tells of a reset also while nobody reads it: *hbone.Stream.
type resettable interface {
	AfterReset(f func()) (stop func() bool)
}

// errStalled is a reset whose other side does not even take what came before it.
var errStalled = errors.New("relay: reset, and the other side takes nothing")

// watch sees to it that a connection that was reset does not wait for ever behind a side that takes nothing: until a write ends, the direction that
// reads from c cannot learn of it. count is what that direction has written. The function that it gives ends the watch; done must be closed by then.
func (r *run) watch(c Conn, count *atomic.Int64) (end func()) {
	x, ok := c.(resettable)
	if !ok {
		return func() {}
	}
	over := make(chan struct{})
	stop := x.AfterReset(func() {
		defer close(over)
		r.outlast(count)
	})
	return func() {
		if !stop() {
			<-over
		}
	}
}

// outlast waits for the end of the copy for as long as there is progress.
func (r *run) outlast(count *atomic.Int64) {
	tick := time.NewTicker(stall)
	defer tick.Stop()
	for last := count.Load(); ; {
		select {
		case <-r.done:
			return
		case <-tick.C:
		}
		now := count.Load()
		if now == last {
			r.abort(fmt.Errorf("%w: %w", errStalled, syscall.ECONNRESET))
			return
		}
		last = now
	}
}
