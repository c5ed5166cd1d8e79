// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	// reviewLife is how long a token that the API server judged is not reviewed again. A proxy that asks for the certificates of
	// its pods shows the same token many times within seconds; a token that is revoked is refused this much later at most.
	reviewLife = 10 * time.Second
	// refusalLife is the same for a token that was not accepted. The API server may not have heard yet of an account or a pod that is new.
	refusalLife = time.Second
	// maxReviews bounds the tokens that are remembered. Each costs about 200 bytes; 4096 proxies and gateways may call within reviewLife.
	maxReviews = 4096
)

// reviews remembers what the API server said of tokens lately. It holds hashes and never a token. The zero value is ready for use.
type reviews struct {
	mu     sync.Mutex
	judged map[[sha256.Size]byte]review
}

type review struct {
	caller  xds.Caller
	refusal error
	ends    time.Time
}

// lookup finds the caller, or the refusal, of a token that was judged a short while ago.
func (r *reviews) lookup(token string) (caller xds.Caller, refusal error, ok bool) { //nolint:revive // the refusal is what is looked up, no failure of looking
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.judged[sha256.Sum256([]byte(token))]
	if !ok || !time.Now().Before(known.ends) {
		return xds.Caller{}, nil, false
	}
	return known.caller, known.refusal, true
}

// keep remembers a token that was judged by a review that began at a time. If there is no room, another one is forgotten.
func (r *reviews) keep(token string, caller xds.Caller, refusal error, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.judged == nil {
		r.judged = map[[sha256.Size]byte]review{}
	}
	if len(r.judged) >= maxReviews {
		for k, v := range r.judged {
			if !time.Now().Before(v.ends) {
				delete(r.judged, k)
			}
		}
	}
	for k := range r.judged {
		if len(r.judged) < maxReviews {
			break
		}
		delete(r.judged, k)
	}
	life := reviewLife
	if refusal != nil {
		life = refusalLife
	}
	r.judged[sha256.Sum256([]byte(token))] = review{caller, refusal, began.Add(life)}
}
