// SPDX-License-Identifier: Apache-2.0

package backendtls

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstPause and lastPause bound how long an endpoint whose handshake failed is passed over; the time doubles with each failure in a row, as for one that cannot be
	// connected to.
	firstPause, lastPause = time.Second, 30 * time.Second
	// maxFailing bounds of how many endpoints it is remembered. Beyond it they are not passed over, only tried.
	maxFailing = 1024
)

// failing are the endpoints whose handshakes failed lately. While there are none, asking costs one load.
//
// Nothing is asked about whose fault a failure is. By what is ours (the name that is asked for, the CAs, the names of the policy, the protocol, the certificate that is shown) all
// endpoints fail alike, and where all are passed over none is; and as it is all part of the Settings, what is put right there are other Settings, which hold nothing
// against anybody. What is an endpoint's own (a certificate that has ended, a process that hangs, one that does not speak TLS yet) is passed over for these Settings alone: for who expects
// something else of the endpoint, or speaks to it otherwise, nothing is wrong with it.
type failing struct {
	some atomic.Bool
	mu   sync.Mutex // hold for of
	of   map[string]failure
}

type failure struct {
	inARow int
	until  time.Time
}

// Failed notes that an endpoint's handshake failed, and says for how long it is passed over; 0: it is already, or no handshake was made. nil is no Settings.
func (s *Settings) Failed(endpoint string, now time.Time) time.Duration {
	if s == nil || s.problem != nil {
		return 0
	}
	f := &s.failing
	f.mu.Lock()
	defer f.mu.Unlock()
	was, known := f.of[endpoint]
	if now.Before(was.until) {
		return 0 // many find the same failure
	}
	if !known && len(f.of) >= maxFailing {
		if f.tidy(now); len(f.of) >= maxFailing {
			return 0
		}
	}
	if f.of == nil {
		f.of = map[string]failure{}
	}
	pause := min(firstPause<<min(was.inARow, 10), lastPause)
	f.of[endpoint] = failure{was.inARow + 1, now.Add(pause)}
	f.some.Store(true)
	return pause
}

// Agreed forgets an endpoint's failures. nil is no Settings.
func (s *Settings) Agreed(endpoint string) {
	if s == nil || !s.failing.some.Load() {
		return
	}
	f := &s.failing
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, endpoint)
	f.some.Store(len(f.of) > 0)
}

// Out are the endpoints to pass over while there are others; the map is the caller's. nil is no Settings.
func (s *Settings) Out(now time.Time) map[string]struct{} {
	if s == nil || !s.failing.some.Load() {
		return nil
	}
	f := &s.failing
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tidy(now)
	var out map[string]struct{}
	for endpoint, of := range f.of {
		if now.Before(of.until) {
			if out == nil {
				out = map[string]struct{}{}
			}
			out[endpoint] = struct{}{}
		}
	}
	return out
}

// tidy forgets failures a while after their endpoint was let in again. It needs mu.
func (f *failing) tidy(now time.Time) {
	for endpoint, of := range f.of {
		if now.Sub(of.until) > 2*lastPause {
			delete(f.of, endpoint)
		}
	}
	f.some.Store(len(f.of) > 0)
}
