// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"math"
	"time"
)

// halfLife is how long it takes until a stream that was given to a pod counts half, whether it still runs or not. Streams that run count as well, but if they alone
// did, short connections would all go to the pod that happens to carry one long one less than the others. With a half-life of 5 s, and ten streams a second to each
// pod, one long stream more costs a pod 1.4 % of the short ones.
const halfLife = 5 * time.Second

// recency is how many streams were given lately, each the less the longer ago.
type recency struct {
	count float64 // at
	at    time.Time
}

// of is the count as it is now.
func (r recency) of(now time.Time) float64 {
	passed := now.Sub(r.at)
	if r.count == 0 || passed <= 0 {
		return r.count
	}
	return r.count * math.Exp2(-float64(passed)/float64(halfLife))
}

// add counts n more.
func (r *recency) add(n float64, now time.Time) {
	r.count, r.at = r.of(now)+n, now
}
