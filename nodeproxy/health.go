// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// firstEjection is how long an endpoint is passed over after its first failure; it doubles with each further one in a row. One
	// second is about what discovery needs to tell of a pod that ended.
	firstEjection = time.Second
	lastEjection  = 30 * time.Second
	// maxEjections bounds what is remembered. Beyond it endpoints are not passed over, only tried.
	maxEjections = 4096
)

// health remembers endpoints that could not be connected, by UID, for all pods of the node together. It only ever delays their use:
// when nothing else is left they are tried all the same.
type health struct {
	now func() time.Time

	mu      sync.Mutex
	ejected map[ejected]ejection
}

// ejected names an endpoint, and what it was dialled for: it may refuse one of its ports and serve another. The zero address stands for
// all that it has.
type ejected struct {
	uid string
	dst netip.AddrPort
}

type ejection struct {
	failures int
	until    time.Time
}

func newHealth(now func() time.Time) *health {
	return &health{now: now, ejected: map[ejected]ejection{}}
}

// failed notes a failure to connect to an endpoint for dst. One that did not answer at all is passed over for everything; it says so by the
// zero dst.
func (h *health) failed(uid string, dst netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	key := ejected{uid, dst}
	e, known := h.ejected[key]
	if !known && len(h.ejected) >= maxEjections {
		h.sweep(now)
		if len(h.ejected) >= maxEjections {
			return
		}
	}
	e.failures++
	e.until = now.Add(min(firstEjection<<min(e.failures-1, 10), lastEjection))
	h.ejected[key] = e
}

// worked forgets the failures of an endpoint that was connected for dst.
func (h *health) worked(uid string, dst netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ejected, ejected{uid, dst})
	delete(h.ejected, ejected{uid: uid})
}

// avoid gives a set of its own with the endpoints to pass over now for dst, never nil.
func (h *health) avoid(dst netip.AddrPort) map[string]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]struct{}{}
	now := h.now()
	for key, e := range h.ejected {
		if now.Before(e.until) && (key.dst == dst || !key.dst.IsValid()) {
			out[key.uid] = struct{}{}
		}
	}
	return out
}

// sweep forgets what is over for as long again as it lasted at most. mu is held.
func (h *health) sweep(now time.Time) {
	for key, e := range h.ejected {
		if now.After(e.until.Add(lastEjection)) {
			delete(h.ejected, key)
		}
	}
}
