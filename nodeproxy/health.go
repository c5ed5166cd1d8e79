// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
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
	ejected map[string]ejection
}

type ejection struct {
	failures int
	until    time.Time
}

func newHealth(now func() time.Time) *health {
	return &health{now: now, ejected: map[string]ejection{}}
}

// failed notes a failure to connect.
func (h *health) failed(uid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	e, known := h.ejected[uid]
	if !known && len(h.ejected) >= maxEjections {
		h.sweep(now)
		if len(h.ejected) >= maxEjections {
			return
		}
	}
	e.failures++
	e.until = now.Add(min(firstEjection<<min(e.failures-1, 10), lastEjection))
	h.ejected[uid] = e
}

// worked forgets the failures of an endpoint.
func (h *health) worked(uid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ejected, uid)
}

// avoid gives a set of its own with the endpoints to pass over now, never nil.
func (h *health) avoid() map[string]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]struct{}{}
	now := h.now()
	for uid, e := range h.ejected {
		if now.Before(e.until) {
			out[uid] = struct{}{}
		}
	}
	return out
}

// sweep forgets what is over for as long again as it lasted at most. mu is held.
func (h *health) sweep(now time.Time) {
	for uid, e := range h.ejected {
		if now.After(e.until.Add(lastEjection)) {
			delete(h.ejected, uid)
		}
	}
}
