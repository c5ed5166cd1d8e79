// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"

	"golang.org/x/time/rate"
)

const (
	// tellRate and tellBurst bound the Events that one pod causes by what it rejects, a second and at once: two responses full of faults, then six a minute.
	// What is fixed by hand needs no more, and a pod that rejects all that it is sent would otherwise be worth 20 Events for each of its messages.
	tellRate, tellBurst = 0.1, 40
	// tellRateOfAll and tellBurstOfAll are the same for all pods together. Each Event that the API server has not taken yet costs us a goroutine.
	tellRateOfAll, tellBurstOfAll = 10, 400
	// maxTellers bounds the pods that are kept. Beyond it those who have their whole share are forgotten; if none has, a pod that is new waits.
	maxTellers = 4096
)

// teller is a pod, by namespace and name.
type teller struct{ namespace, pod string }

// tellers bounds the Events that pods cause. The zero value is ready for use.
type tellers struct {
	mu    sync.Mutex
	limit map[teller]*rate.Limiter
	all   *rate.Limiter
}

// allow takes an Event off the share of a pod, and off that of all, if both have one left.
func (t *tellers) allow(who teller) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limit == nil {
		t.limit, t.all = map[teller]*rate.Limiter{}, rate.NewLimiter(tellRateOfAll, tellBurstOfAll)
	}
	l := t.limit[who]
	if l == nil {
		for old, l := range t.limit {
			if len(t.limit) < maxTellers {
				break
			}
			if l.Tokens() >= tellBurst {
				delete(t.limit, old)
			}
		}
		if len(t.limit) >= maxTellers {
			return false
		}
		l = rate.NewLimiter(tellRate, tellBurst)
		t.limit[who] = l
	}
	return l.Allow() && t.all.Allow()
}
