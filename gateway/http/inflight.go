// SPDX-License-Identifier: Apache-2.0

package http

import "sync"

// inflight counts requests. Unlike a WaitGroup it may be waited for while more begin.
type inflight struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when none is left; nil while nobody waits
}

func (i *inflight) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
}

func (i *inflight) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.n--; i.n == 0 && i.idle != nil {
		close(i.idle)
		i.idle = nil
	}
}

// none is closed when no request is left.
func (i *inflight) none() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.idle == nil {
		i.idle = make(chan struct{})
	}
	out := i.idle
	if i.n == 0 {
		close(i.idle)
		i.idle = nil
	}
	return out
}
