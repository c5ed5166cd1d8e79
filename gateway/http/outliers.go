// SPDX-License-Identifier: Apache-2.0

package http

import (
	"sync"
	"sync/atomic"
	"time"
)

// ejectMin and ejectMax bound how long an endpoint that could not be connected to is left alone; the time doubles with each failure in a row.
const ejectMin, ejectMax = time.Second, 30 * time.Second

// outliers are the endpoints that could not be connected to lately, by UID. While there are none, asking costs one load.
type outliers struct {
	now func() time.Time

	some  atomic.Bool
	mu    sync.Mutex // hold for known
	known map[string]outlier
}

type outlier struct {
	failures int
	until    time.Time
}

func (o *outliers) failed(uid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil {
		o.known = map[string]outlier{}
	}
	was := o.known[uid]
	now := o.now()
	if now.Before(was.until) {
		return // out already: many requests find the same failure
	}
	out := min(ejectMax, ejectMin<<min(was.failures, 10))
	o.known[uid] = outlier{was.failures + 1, now.Add(out)}
	o.some.Store(true)
}

// succeeded forgets an endpoint's failures.
func (o *outliers) succeeded(uid string) {
	if !o.some.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.known, uid)
	o.some.Store(len(o.known) > 0)
}

// out are the endpoints to leave out; nil: none. Failures are forgotten a while after an endpoint was let in again.
func (o *outliers) out() map[string]struct{} {
	if !o.some.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	var out map[string]struct{}
	for uid, of := range o.known {
		switch {
		case now.Before(of.until):
			if out == nil {
				out = map[string]struct{}{}
			}
			out[uid] = struct{}{}
		case now.Sub(of.until) > 2*ejectMax:
			delete(o.known, uid)
		}
	}
	o.some.Store(len(o.known) > 0)
	return out
}
