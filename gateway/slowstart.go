// SPDX-License-Identifier: Apache-2.0

package gateway

import "time"

const (
	// slowStart is how long an endpoint that came, or came back, takes to get its whole share of new streams: without it the one with the fewest
	// streams would get all of them while its caches are cold. 30 s is what a JVM needs to have compiled what matters, and no release waits for it.
	slowStart = 30 * time.Second
	// slowLeast is the part of its share that it gets from the first moment: with nothing it would not warm up.
	slowLeast = 0.1
	// mostCredit is how many streams it may have saved up: one, and one more while it waits for its turn among equals.
	mostCredit = 2
)

// warmUp begins an endpoint's slow start.
func (s *endpointState) warmUp(from time.Time) { s.since, s.credit = from, 0 }

// share is which part of its share of new streams an endpoint may have: 1 once it is warm.
func (b *balancer) share(s *endpointState, now time.Time) float64 {
	elapsed := now.Sub(s.since)
	if s.since.IsZero() || elapsed >= b.slow {
		return 1
	}
	return max(slowLeast, float64(elapsed)/float64(b.slow))
}

// starved says whether an endpoint that warms up has had its part already. Each stream of the service gives it credit for its part of
// one, and it takes a stream when it has saved one up.
func (b *balancer) starved(s *endpointState, now time.Time, capacity, total uint64) bool {
	share := b.share(s, now)
	if share == 1 {
		return false
	}
	s.credit = min(s.credit+share*float64(capacity)/float64(max(total, 1)), mostCredit)
	return s.credit < 1
}
