// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	// reviewLife is how long a token that the API server accepted is not reviewed again. A proxy that asks for the certificates of
	// its pods shows the same token many times within seconds; a token that is revoked is refused this much later at most.
	reviewLife = 10 * time.Second
	// maxReviews bounds the tokens that are remembered. Each costs about 200 bytes; 4096 proxies and gateways may call within reviewLife.
	maxReviews = 4096
)

// reviews remembers whose tokens the API server accepted lately. It holds hashes and never a token. The zero value is ready for use.
type reviews struct {
	mu       sync.Mutex
	accepted map[[sha256.Size]byte]review
}

type review struct {
	caller xds.Caller
	ends   time.Time
}

// lookup finds a caller whose token was accepted less than reviewLife ago.
func (r *reviews) lookup(token string) (xds.Caller, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.accepted[sha256.Sum256([]byte(token))]
	if !ok || !time.Now().Before(known.ends) {
		return xds.Caller{}, false
	}
	return known.caller, true
}

// keep remembers a token that was accepted by a review that began at a time. If there is no room, another one is forgotten.
func (r *reviews) keep(token string, caller xds.Caller, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accepted == nil {
		r.accepted = map[[sha256.Size]byte]review{}
	}
	if len(r.accepted) >= maxReviews {
		for k, v := range r.accepted {
			if !time.Now().Before(v.ends) {
				delete(r.accepted, k)
			}
		}
	}
	for k := range r.accepted {
		if len(r.accepted) < maxReviews {
			break
		}
		delete(r.accepted, k)
	}
	r.accepted[sha256.Sum256([]byte(token))] = review{caller, began.Add(reviewLife)}
}
