// SPDX-License-Identifier: Apache-2.0

package world

import "time"

// A change that is one small object may concern everything of its cluster: its network's name, say, or which services it shares. Who pays nothing for a change can make it as
// often as it likes, so what other clusters say is bounded by the work that it is for the taker, too. Work is counted in objects that are looked at (about 10 µs each), not in time, which
// is longer for everybody when the machine is busy.
const (
	// dear is how much work of one hand-out counts: several times that of maxGathered objects that concern themselves and what they are behind.
	dear = 1000
	// allowance is how much work there may be because of one cluster at once, in hand-outs that are dear: linking one of 100,000 pods is a third of it.
	allowance = 1_000_000
	// allowanceRate is how much it may be each second after that: a tenth of a core.
	allowanceRate = 10_000
)

// allowances are how much work clusters are for the taker. The Store guards them.
type allowances struct {
	of map[Cluster]*spending
	// What the taker has in hand: of which other clusters, whether of more than one or of its own as well, and how much work it was.
	hand     map[Cluster]struct{}
	together bool
	work     int
	// dropped are clusters of which everything goes: that is not put off.
	dropped map[Cluster]struct{}
}

// spending is of one cluster. One of which something dear was handed out with others' is handed out alone from then on, until that was not dear.
type spending struct {
	work float64 // as of at
	at   time.Time
}

func newAllowances() allowances {
	return allowances{of: map[Cluster]*spending{}, hand: map[Cluster]struct{}{}, dropped: map[Cluster]struct{}{}}
}

func (s *spending) owes(now time.Time) float64 {
	return max(0, s.work-now.Sub(s.at).Seconds()*allowanceRate)
}

// handedOut notes whether there is something of the taker's own cluster in what it has in hand from now on.
func (a *allowances) handedOut(near bool) { a.together = near || len(a.hand) > 1 }

// cameBack notes that the taker has done with it.
func (a *allowances) cameBack(now time.Time) {
	for c := range a.hand {
		s := a.of[c]
		if a.work < dear {
			if s != nil && s.owes(now) == 0 {
				delete(a.of, c)
			}
			continue
		}
		if s == nil {
			s = &spending{}
			a.of[c] = s
		}
		s.work, s.at = s.owes(now), now
		if !a.together {
			s.work += float64(a.work)
		}
	}
	clear(a.hand)
	a.work = 0
}

// wait is for how long what a cluster says is put off.
func (a *allowances) wait(c Cluster, now time.Time) time.Duration {
	s := a.of[c]
	if _, dropped := a.dropped[c]; dropped || s == nil {
		return 0
	}
	return time.Duration(max(0, s.owes(now)-allowance) / allowanceRate * float64(time.Second))
}

// alone says whether a cluster is handed out by itself, so that it is known what work it is.
func (a *allowances) alone(c Cluster) bool { return a.of[c] != nil }

// handsOneAlone says whether what is being handed out is of a cluster that is handed out by itself.
func (a *allowances) handsOneAlone() bool {
	for c := range a.hand {
		if a.alone(c) {
			return true
		}
	}
	return false
}

// Spent says how many objects the taker looked at because of what it has in hand.
func (s *Store) Spent(objects int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowances.work += objects
}

// PutOff is for how much longer what a cluster says is not handed out by TakeGathered, because what it said before was too much work; 0 if it is.
func (s *Store) PutOff(c Cluster) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allowances.wait(c, time.Now())
}
