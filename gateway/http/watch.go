// SPDX-License-Identifier: Apache-2.0

package http

import (
	"sync"
	"time"
)

// watch bounds how long each of several things may take that happen one after another, with pauses of any length between them.
type watch struct {
	limit time.Duration
	late  func() // called while one takes too long, from another goroutine; never after end

	timer *time.Timer
	mu    sync.Mutex // hold for since
	since time.Time  // zero: nothing goes on
}

func newWatch(limit time.Duration, late func()) *watch { return &watch{limit: limit, late: late} }

// begin starts one.
func (w *watch) begin() {
	w.mu.Lock()
	w.since = time.Now()
	w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, w.fire)
	} else {
		w.timer.Reset(w.limit)
	}
}

// end says that it is over.
func (w *watch) end() {
	w.mu.Lock()
	w.since = time.Time{}
	w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The timer may be that of one that is over, late for a moment, while the next has just begun.
	if !w.since.IsZero() && time.Since(w.since) >= w.limit {
		w.late()
	}
}
