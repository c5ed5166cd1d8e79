// SPDX-License-Identifier: Apache-2.0

package http

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// retryShare is how much of the requests that wait for a service's answer may be there for another time, as one in so many: a fifth, so that a service that fails
	// altogether gets at most a quarter more than it would without retries.
	retryShare = 5
	// retryFloor is how many may be in any case, or a service that is hardly asked would never be asked twice.
	retryFloor = 10
)

// budgets bound the retries to each service. Only the requests of rules that retry count.
type budgets struct {
	mu sync.Mutex
	of map[mesh.ServiceKey]*budget // those that have requests under way
}

type budget struct{ running, again int }

// load is one request's part of a budget.
type load struct{ again bool }

func (b *budgets) begin(service mesh.ServiceKey) *load {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[mesh.ServiceKey]*budget{}
	}
	of := b.of[service]
	if of == nil {
		of = &budget{}
		b.of[service] = of
	}
	of.running++
	return &load{}
}

// take says whether a request may be tried again. If so, it counts until it ends.
func (b *budgets) take(service mesh.ServiceKey, l *load) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.again {
		return true
	}
	of := b.of[service]
	if of.again >= max(retryFloor, of.running/retryShare) {
		return false
	}
	of.again++
	l.again = true
	return true
}

func (b *budgets) end(service mesh.ServiceKey, l *load) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.of[service]
	if l.again {
		of.again--
	}
	if of.running--; of.running == 0 {
		delete(b.of, service)
	}
}
