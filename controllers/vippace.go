// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	"golang.org/x/time/rate"
)

const (
	// vipWrites is how many ConfigMaps a second may be written for long because of one cluster, and vipBurst how many at once: a cluster of any size that is linked, four
	// times over. A service that comes where there was quiet costs one.
	vipWrites = 1
	vipBurst  = 4 * vipShards
	// vipPace is how far apart passes over all addresses are, at least. The first after a quiet time does not wait.
	vipPace = time.Second
	// vipShare is how many times as long as a pass took nothing is done after it: each reads and maybe writes megabytes, and has a fifth of the time.
	vipShare = 4
	// vipPaceMost is how long that is at most: an API server that is slow is no reason to leave services without an address for longer.
	vipPaceMost = 5 * time.Second
)

// vipBudget is what of the API server's time clusters may take by changes of what they have. One pass writes a ConfigMap once, however much changes in it. Nil
// is without bound.
type vipBudget struct {
	clusters map[string]*rate.Limiter          // by what stands for a cluster in lease.By; none that is full
	spent    map[vipSpending]*rate.Reservation // in this pass
}

// vipSpending is a ConfigMap that a cluster has written in a pass.
type vipSpending struct {
	cluster string
	shard   int
}

func newVIPBudget() *vipBudget { return &vipBudget{clusters: map[string]*rate.Limiter{}} }

// pass begins another one.
func (b *vipBudget) pass(now time.Time) {
	if b == nil {
		return
	}
	b.spent = map[vipSpending]*rate.Reservation{}
	for c, limit := range b.clusters {
		if limit.TokensAt(now) >= vipBurst {
			delete(b.clusters, c)
		}
	}
}

// spend says whether each of some clusters may have a ConfigMap written in this pass. If so, it is on their account.
func (b *vipBudget) spend(clusters []string, shard int, now time.Time) bool {
	if b == nil {
		return true
	}
	var due []vipSpending
	for _, c := range clusters {
		if s := (vipSpending{c, shard}); b.spent[s] == nil {
			if b.clusters[c] == nil {
				b.clusters[c] = rate.NewLimiter(vipWrites, vipBurst)
			}
			if b.clusters[c].TokensAt(now) < 1 {
				return false
			}
			due = append(due, s)
		}
	}
	for _, s := range due {
		b.spent[s] = b.clusters[s.cluster].ReserveN(now, 1)
	}
	return true
}

// giveBack takes off the clusters' accounts what was spent in this pass for ConfigMaps that were not written.
func (b *vipBudget) giveBack(written func(shard int) bool, now time.Time) {
	if b == nil {
		return
	}
	for s, spent := range b.spent {
		if !written(s.shard) {
			spent.CancelAt(now)
			delete(b.spent, s)
		}
	}
}

// next is when somebody who may not spend may look again: some tokens later, so that what came meanwhile is written at once.
func (b *vipBudget) next(now time.Time) time.Time {
	return now.Add(vipShards / vipWrites * time.Second / 4)
}
