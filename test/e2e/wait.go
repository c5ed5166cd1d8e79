// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// until asks again and again, every 100 ms, until the answer is yes or the time is over. What it returns is the last
// thing that was seen and whether it was yes; errors are things seen, because servers come up in their own order.
func until(ctx context.Context, limit time.Duration, ask func(context.Context) (seen string, yes bool)) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := "nothing"
	for {
		// A deadline that ends one question would replace what was seen by "context deadline exceeded".
		seen, yes := ask(ctx)
		if yes {
			return seen, true
		}
		if ctx.Err() != nil {
			return last, false
		}
		last = seen
		select {
		case <-ctx.Done():
			return last, false
		case <-tick.C:
		}
	}
}

// collect waits until n requests that began at or after since have ended, or the limit is over, and gives what there is.
func collect(ctx context.Context, log *traffic.Log, since time.Time, n int, limit time.Duration) traffic.Results {
	return collectUntil(ctx, log, since, limit, func(rs traffic.Results) bool { return len(rs) >= n })
}

// collectUntil waits until the requests that began at or after since satisfy enough, or the limit is over.
func collectUntil(ctx context.Context, log *traffic.Log, since time.Time, limit time.Duration, enough func(traffic.Results) bool) traffic.Results {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		results, grown := log.Since(since)
		if enough(results) {
			return results
		}
		select {
		case <-ctx.Done():
			return results
		case <-grown:
		}
	}
}

// pause lets traffic flow for a while. It is not a wait for something to become true: those use until and collect.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
