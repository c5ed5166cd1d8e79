// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// budget is how much may be read of a cluster, and how fast. It is the id's, not the connection's: a cluster that makes us begin anew, by being another one for a moment, say,
// must not be read any faster for it. It needs mu.
func (r *Remotes) budget(id world.Cluster) *rate.Limiter {
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
		if r.entries[id] == nil && b.Tokens() >= intakeBurst {
			delete(r.budgets, id)
		}
	}
}

func newBudget() *rate.Limiter { return rate.NewLimiter(intakeRate, intakeBurst) }
