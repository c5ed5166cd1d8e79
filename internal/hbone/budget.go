// SPDX-License-Identifier: Apache-2.0

package hbone

import "time"

// bucket is the state of a Budget. It belongs to the holder of the seat.
type bucket struct {
	tokens float64
	last   time.Time
}

// spend takes one token and says whether there was one.
func (b *bucket) spend(limit Budget) bool {
	if b.tokens < 1 || b.last.IsZero() {
		// The clock is read only when the bucket runs dry: a well-behaved peer costs a comparison.
		now := time.Now()
		if b.last.IsZero() {
			b.tokens = float64(limit.Burst)
		} else {
			b.tokens += now.Sub(b.last).Seconds() * float64(limit.PerSecond)
		}
		b.last = now
		b.cap(limit)
		if b.tokens < 1 {
			return false
		}
	}
	b.tokens--
	return true
}

// earn adds tokens, never beyond the burst.
func (b *bucket) earn(n float64, limit Budget) {
	if b.last.IsZero() {
		return // full
	}
	b.tokens += n
	b.cap(limit)
}

func (b *bucket) cap(limit Budget) {
	b.tokens = min(b.tokens, float64(limit.Burst))
}
