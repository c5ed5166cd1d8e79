// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxAllEjections bounds what is remembered of all sources together: at about 300 bytes each, 5 MB. It is what 32 sources may remember that know no bounds; whoever remembers less
// than an equal share takes the room of whoever remembers most, so that nobody can keep the others from remembering.
const maxAllEjections = 16384

// Healths are those of all sources of a process. What one of them cannot connect may be its own fault (a NetworkPolicy selects pods, and an endpoint may let in some only),
// so each passes over what it failed to connect itself. The others hear of it all the same: they wait for it less long at first, while there is something else.
type Healths struct {
	now    func() time.Time
	random func() float64 // in [0, 1)

	mu      sync.Mutex // hold for all below, for a few look-ups at a time; a Health's own comes before it
	sources map[*Health]struct{}
	news    map[ejected]rumour
	all     int       // how much all sources remember
	cleared time.Time // when what is over was last forgotten everywhere because there was no room
}

// rumour is the latest news that somebody could not connect something, by a source that remembers it.
type rumour struct {
	by    *Health
	until time.Time // for how long that source passes it over
}

// NewHealths is told the time, and chance in [0, 1).
func NewHealths(now func() time.Time, random func() float64) *Healths {
	return &Healths{now: now, random: random, sources: map[*Health]struct{}{}, news: map[ejected]rumour{}}
}

// New gives the Health of one more source, which knows of no failure. Close ends it.
func (hs *Healths) New() *Health {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := &Health{Healths: hs, ejected: map[ejected]ejection{}}
	hs.sources[h] = struct{}{}
	return h
}

// leave ends what New began.
func (hs *Healths) leave(h *Health) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.sources, h)
}

// Counts says how many endpoints and gateways some source passes over now.
func (hs *Healths) Counts() (endpoints, gateways int) {
	now, seen := hs.now(), map[ejected]struct{}{}
	for _, h := range hs.list() {
		h.mu.Lock()
		for key, e := range h.ejected {
			if e.probed() || now.Before(e.until) {
				seen[key] = struct{}{}
			}
		}
		h.mu.Unlock()
	}
	for key := range seen {
		if key.isGateway() {
			gateways++
		} else {
			endpoints++
		}
	}
	return endpoints, gateways
}

func (hs *Healths) list() []*Health {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return slices.Collect(maps.Keys(hs.sources))
}

// take counts one more that is remembered, if there is room for it.
func (hs *Healths) take() bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.all >= maxAllEjections {
		return false
	}
	hs.all++
	return true
}

// give ends what take began, and what by told of key.
func (hs *Healths) give(key ejected, by *Health) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.all--
	if hs.news[key].by == by {
		delete(hs.news, key)
	}
}

// tell spreads that by passes something over, which it remembers.
func (hs *Healths) tell(key ejected, by *Health, until time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if last, known := hs.news[key]; !known || last.by == by || last.until.Before(until) {
		hs.news[key] = rumour{by: by, until: until}
	}
}

// unwell says whether somebody passes over one of these now.
func (hs *Healths) unwell(keys []ejected) bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if len(hs.news) == 0 {
		return false
	}
	now := hs.now()
	return slices.ContainsFunc(keys, func(key ejected) bool { return now.Before(hs.news[key].until) })
}

// rumoured says that others pass over something now that a plan takes, of which this source itself knows nothing. It may be that nobody can connect it.
func (h *Health) rumoured(plan Plan) bool {
	keys := keysOf(plan, netip.AddrPort{})
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		if _, own := h.ejected[key]; own {
			return false
		}
	}
	return h.unwell(keys[:])
}

// makeRoom lets this source remember one more, if it may. Neither lock is held: it looks at one source after the other.
func (h *Health) makeRoom(key ejected) {
	h.mu.Lock()
	_, known := h.ejected[key]
	mine := len(h.ejected)
	h.mu.Unlock()
	share, full, due := h.room()
	poor := !known && mine < share
	if !full || !due && !poor {
		return
	}
	most, held := h, mine
	for _, other := range h.list() {
		other.mu.Lock()
		other.tidy(h.now())
		if n := len(other.ejected); n > held {
			most, held = other, n
		}
		other.mu.Unlock()
	}
	if _, full, _ = h.room(); !full || !poor {
		return
	}
	most.mu.Lock()
	defer most.mu.Unlock()
	for key := range most.ejected {
		most.drop(key)
		return
	}
}

// room gives how much each source may remember if all remember the same, and whether there is no room for more. If so, due says once in a while that the caller looks everywhere
// for what is over.
func (hs *Healths) room() (share int, full, due bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	share = maxAllEjections / max(len(hs.sources), 1)
	if hs.all < maxAllEjections {
		return share, false, false
	}
	now := hs.now()
	if due = now.Sub(hs.cleared) >= sweepPause; due {
		hs.cleared = now
	}
	return share, true, due
}
