// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

const (
	// askRate and askBurst bound the reviews of tokens for callers of one address, a second and at once. A node proxy shows one token, which changes within
	// the hour, and is reviewed again each reviewLife: a tenth of a review a second. The rest is for many proxies behind one address, which may all start at once.
	askRate, askBurst = 2, 100
	// maxAskers bounds the addresses that are kept. Beyond it those who have their whole share are forgotten, then any.
	maxAskers = 4096
)

// askers bounds what callers of one address may have the API server do, so that whoever shows it many bad tokens uses up his own share and not that of
// the others. The zero value is ready for use.
type askers struct {
	mu    sync.Mutex
	limit map[netip.Addr]*rate.Limiter
}

// allow takes one review off an address's share, if there is one left.
func (a *askers) allow(from netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.limit[from]
	if l == nil {
		if a.limit == nil {
			a.limit = map[netip.Addr]*rate.Limiter{}
		}
		if len(a.limit) >= maxAskers {
			a.forget()
		}
		l = rate.NewLimiter(askRate, askBurst)
		a.limit[from] = l
	}
	return l.Allow()
}

// forget makes room: whoever has its whole share again is as one who never asked; if all have spent something, any of them goes.
func (a *askers) forget() {
	for from, l := range a.limit {
		if l.Tokens() >= askBurst {
			delete(a.limit, from)
		}
	}
	for from := range a.limit {
		if len(a.limit) < maxAskers {
			return
		}
		delete(a.limit, from)
	}
}
