// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// budget is how much may be read of a cluster, and how fast. It is the id's, not the connection's: a cluster that makes us begin anew, by being another one for a moment, say,
// must not be read any faster for it.
type budget struct {
	*rate.Limiter // of answers' bytes
	beside        beside
}

func newBudget() *budget { return &budget{Limiter: rate.NewLimiter(intakeRate, intakeBurst)} }

// budget needs mu.
func (r *Remotes) budget(id world.Cluster) *budget {
	b := r.budgets[id]
	if b == nil {
		b = newBudget()
		r.budgets[id] = b
	}
	return b
}

// forgetBudgets drops those of ids that nobody wishes for, as soon as a new one would be no larger. It needs mu.
func (r *Remotes) forgetBudgets() {
	for id, b := range r.budgets {
		if r.entries[id] == nil && b.Tokens() >= intakeBurst && b.beside.none(time.Now()) {
			delete(r.budgets, id)
		}
	}
}

const (
	// besideRate is how much may come for long that is in no answer, in bytes per second: of a thousand changes a second, what TLS and HTTP/2 put around them is 40 kB.
	besideRate = 256 << 10
	// besideBurst is how much may come of it at once, in bytes. What waits in a connection's buffers until somebody reads it looks alike: 1 MiB for each of eight watches and a few questions, in
	// each of two connections while one takes over from the other.
	besideBurst = 32 << 20
)

// beside is what came that is in no answer, in bytes: pings and settings of HTTP/2, and what is told in streams that nobody reads any more. Libraries read that as fast as it comes, and answer
// pings; 17 bytes of it cost as much as an object.
type beside struct {
	mu   sync.Mutex
	came float64
	at   time.Time
}

// add notes bytes as they come, and says for how long to leave alone whoever sends them.
func (b *beside) add(n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pass(now)
	b.came += float64(n)
	return time.Duration(max(0, b.came-besideBurst) / besideRate * float64(time.Second))
}

// read notes bytes of an answer, which came before. Unpacked they may be more than what came.
func (b *beside) read(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.came = max(0, b.came-float64(n))
}

func (b *beside) none(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pass(now)
	return b.came == 0
}

// pass needs mu.
func (b *beside) pass(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.came, b.at = max(0, b.came-d.Seconds()*besideRate), now
	}
}
