// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"sync"
	"time"
)

const (
	// largeNames is from how many names on a response is large: about 1.3 MB of workloads.
	largeNames = 4096
	// maxLarge is how many large responses may be unacknowledged at a time; more wait for their turn. A restarted
	// controller owes everything to everybody: 16 × 30 MB for 100 000 workloads, where 1000 × 30 MB would be its end.
	maxLarge = 16
	// doubtFor is how long somebody is doubted from whom a turn was taken because others waited, unless it acknowledges a large response before.
	doubtFor = 10 * time.Minute
	// maxDoubted is how many are remembered to be doubted: more than there may be subscribers that hold a turn within doubtFor.
	maxDoubted = 1 << 12
)

// turns share out the large responses that may be under way. What is taken by one caller, by the callers of one node, and by all who are doubted is never all: of
// peers that do not read, the others notice nothing. It may be used from anywhere.
type turns struct {
	most int

	mu      sync.Mutex
	held    []*turn
	waiting []*turn // in the order in which they asked
	doubted map[turnOwner]time.Time
}

// turnOwner is who takes turns: an identity on a node, as far as the credentials prove it; without a node, one of a pod.
type turnOwner struct{ namespace, account, node, pod string }

// turn is waited for until granted is closed, and held from then until it is ended.
type turn struct {
	of      turnOwner
	granted chan struct{}
}

func newTurns(most int) *turns { return &turns{most: most, doubted: map[turnOwner]time.Time{}} }

// ask gets in line.
func (t *turns) ask(of turnOwner) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := &turn{of: of, granted: make(chan struct{})}
	t.waiting = append(t.waiting, asked)
	t.grant()
	return asked
}

// end gives a turn back, or leaves the line.
func (t *turns) end(given *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	same := func(o *turn) bool { return o == given }
	t.held = slices.DeleteFunc(t.held, same)
	t.waiting = slices.DeleteFunc(t.waiting, same)
	t.grant()
}

// taken is how many are held.
func (t *turns) taken() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held)
}

// wanted says whether somebody waits who should have this turn instead. It stays with one that is sent something and takes it, moving; who is doubted has it until
// somebody waits who is not. Or all who are slow would have to begin anew in a circle, because of each other.
func (t *turns) wanted(given *turn, moving bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(t.held), func(o *turn) bool { return o == given })
	now := time.Now()
	doubted := t.isDoubted(given.of, now)
	if moving && !doubted {
		return false
	}
	return slices.ContainsFunc(t.waiting, func(w *turn) bool {
		return (!doubted || !t.isDoubted(w.of, now)) && t.fits(w.of, others, now)
	})
}

// doubt notes that somebody did not read, or not acknowledge, what it had a turn for.
func (t *turns) doubt(of turnOwner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if len(t.doubted) >= maxDoubted {
		for who, until := range t.doubted {
			if !now.Before(until) {
				delete(t.doubted, who)
			}
		}
	}
	if len(t.doubted) < maxDoubted {
		t.doubted[of] = now.Add(doubtFor)
	}
}

// trust notes that somebody acknowledged.
func (t *turns) trust(of turnOwner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.doubted, of)
}

// grant needs mu.
func (t *turns) grant() {
	now := time.Now()
	t.waiting = slices.DeleteFunc(t.waiting, func(w *turn) bool {
		if !t.fits(w.of, t.held, now) {
			return false
		}
		t.held = append(t.held, w)
		close(w.granted)
		return true
	})
}

// fits says whether another turn may be given to somebody, beside those that are held. It needs mu.
func (t *turns) fits(of turnOwner, held []*turn, now time.Time) bool {
	if len(held) >= t.most {
		return false
	}
	own, node, doubted := 0, 0, 0
	for _, h := range held {
		if h.of == of {
			own++
		}
		if of.node != "" && h.of.node == of.node {
			node++
		}
		if t.isDoubted(h.of, now) {
			doubted++
		}
	}
	if t.isDoubted(of, now) && (own > 0 || doubted >= max(1, t.most/2)) {
		return false
	}
	return own < max(1, t.most/4) && (of.node == "" || node < max(1, t.most/2))
}

func (t *turns) isDoubted(of turnOwner, now time.Time) bool { return now.Before(t.doubted[of]) }
