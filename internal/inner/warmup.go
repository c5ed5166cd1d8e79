// SPDX-License-Identifier: Apache-2.0

package inner

import "time"

const (
	// warmUp is how long a pod that was not reached before takes to get its whole share of streams, and leastShare the part that it gets from the first moment: as for endpoints
	// of a gateway. Otherwise a new pod would be given all that comes until it carries as much as the others, before its caches are warm.
	warmUp     = 30 * time.Second
	leastShare = 0.1
)

// share is which part of what the others carry a pod may have. Where all of a set are as young, as when the source itself is, it makes no difference.
func (p *pod) share(now time.Time) float64 {
	return min(max(float64(now.Sub(p.since))/float64(warmUp), leastShare), 1)
}

// met says when a pod was first reached: one whose sessions ended, and that is reached again, is no new one.
func (t *set) met(name string, now time.Time) time.Time {
	if since, ok := t.since[name]; ok {
		return since
	}
	if len(t.since) >= 2*maxPods {
		for other := range t.since {
			if p := t.pods[other]; p == nil || len(p.sessions) == 0 {
				delete(t.since, other)
			}
		}
	}
	if t.since == nil {
		t.since = map[string]time.Time{}
	}
	t.since[name] = now
	return now
}
