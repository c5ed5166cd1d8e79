// SPDX-License-Identifier: Apache-2.0

package world

import "time"

// Beat is a clock that all clusters share: those that change all the time are read at each of its ticks, and what they said is handed out once after it. So ten clusters
// cost as many wake-ups, and as many messages to proxies, as one.
type Beat struct {
	Every  time.Duration // between two ticks, which are at its multiples on the wall clock; above zero
	Settle time.Duration // from a tick until what was read at it is all there; below Every
}

// UntilTick is how long it is until the next tick: above zero, Every at most.
func (b Beat) UntilTick(now time.Time) time.Duration {
	return now.Truncate(b.Every).Add(b.Every).Sub(now)
}

// untilDue is how long what others say is still held back at now if some of it was last handed out at last; nothing or less if it is due. It is Every at most, also while
// the wall clock is set back.
func (b Beat) untilDue(now, last time.Time) time.Duration {
	due := now.Add(-b.Settle).Truncate(b.Every).Add(b.Settle)
	if last.Before(due) {
		return 0
	}
	return min(due.Add(b.Every).Sub(now), b.Every-now.Sub(last))
}
