// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxAddresses bounds how many addresses of a name are tried for one connection.
	maxAddresses = 4
	// addressTimeout is how long one of several addresses may take for the TCP connection alone, as rumouredTimeout says: a lost SYN is sent again after one second.
	addressTimeout = rumouredTimeout
	// awayFor is how long one where nobody answered comes after the others. One that takes the connection and then is silent for addressTimeout is such a one, too, from then on: who found that out has waited
	// all of his time there, for a busy machine is silent as well. One that hangs up before it has proved anything is one at once.
	awayFor = lastEjection
	// maxAway bounds how many are remembered.
	maxAway = 1024
)

// away are addresses of names with several of them where nobody answered lately. It may be used from anywhere; its zero value is empty.
type away struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
}

// note remembers whether somebody has answered.
func (a *away) note(at netip.AddrPort, answered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if delete(a.until, at); answered {
		return
	}
	now := time.Now()
	if len(a.until) >= maxAway {
		for other, until := range a.until {
			if !now.Before(until) {
				delete(a.until, other)
			}
		}
	}
	if len(a.until) >= maxAway {
		return
	}
	if a.until == nil {
		a.until = map[netip.AddrPort]time.Time{}
	}
	a.until[at] = now.Add(awayFor)
}

// has says whether nobody has answered there lately.
func (a *away) has(at netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.until[at])
}

// last has those of the plans come after the others whose addresses are away.
func (a *away) last(plans []Plan) []Plan {
	slices.SortStableFunc(plans, func(x, y Plan) int {
		switch out := a.has(x.Dial); {
		case out == a.has(y.Dial):
			return 0
		case out:
			return 1
		default:
			return -1
		}
	})
	return plans
}
