// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	// connectDeadline is for everything between an application's connect and the 200 of the last hop, with all attempts.
	connectDeadline = 10 * time.Second
	// attemptTimeout is for an attempt while there are other endpoints, so that a dead host leaves time for them. The last one has all the
	// time that is left: a busy machine is not a dead one.
	attemptTimeout = 3 * time.Second
	// maxAttempts bounds how many endpoints one connection tries.
	maxAttempts = 5
)

// attempts is the search of one outbound connection for an endpoint that can be connected. What it does to the world is handed in.
type attempts struct {
	health *health
	// decide plans, and dial carries the plan out.
	decide func(Choice) (Plan, *Refusal)
	dial   func(context.Context, Plan) (*dialled, *failure)
	random func(uint64) uint64
	// failed hears of each attempt that another one follows, or that was the last.
	failed func(Plan, *Refusal)
	// gatewayDown hears of plans whose gateway could not be connected, after that was noted.
	gatewayDown func(Plan)
}

// failure is a dial that came to nothing.
type failure struct {
	*Refusal
	// gateway says that it was the gateway that could not be connected: nothing is known of what is behind it.
	gateway bool
	// unheard says that nothing is known of the gateway: it was not asked anything, nor did anything come through it.
	unheard bool
}

// connect tries endpoints one after the other until one is connected, all within connectDeadline. It gives the plan that was used, or the one that
// failed last.
func (a *attempts) connect(ctx context.Context, dst netip.AddrPort) (Plan, *dialled, *Refusal) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, connectDeadline)
	defer cancel()
	var (
		tried, ejected = directory.Out{}, a.health.out(dst)
		failedPlan     Plan
		why            *Refusal
	)
	for range maxAttempts {
		plan, refusal := a.decide(Choice{Avoid: tried, Ejected: ejected, Random: a.random})
		if refusal != nil && (why != nil || plan.Picked == "") {
			if why != nil {
				return failedPlan, nil, why // nothing else is left: what went wrong before says more
			}
			return plan, nil, refusal
		}
		failed := &failure{Refusal: refusal}
		if refusal == nil {
			a.health.trying(plan, dst)
			var d *dialled
			if d, failed = a.dialOne(ctx, plan); failed == nil {
				a.health.worked(plan, dst)
				return plan, d, nil
			}
		}
		failedPlan, why = plan, failed.Refusal
		a.failed(plan, why)
		if parent.Err() != nil || final(why) {
			break // nobody waits any more, or trying elsewhere would be wrong
		}
		var more bool
		if tried, more = a.blame(plan, failed, dst, tried); !more || ctx.Err() != nil {
			break
		}
	}
	return failedPlan, nil, why
}

// dialOne gives an attempt a part of the time that is left, if there could be another one.
func (a *attempts) dialOne(ctx context.Context, plan Plan) (*dialled, *failure) {
	if plan.Others || plan.GatewayOthers {
		timeout := attemptTimeout
		if deadline, ok := ctx.Deadline(); ok {
			timeout = min(timeout, time.Until(deadline)/2)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return a.dial(ctx, plan)
}

// blame notes who failed, and gives what not to try again. It says whether there is anything else to try.
func (a *attempts) blame(plan Plan, f *failure, dst netip.AddrPort, tried directory.Out) (directory.Out, bool) {
	if f.gateway && plan.GatewayPicked != "" {
		a.health.failed(plan.GatewayPicked, netip.AddrPort{})
		a.gatewayDown(plan)
		if plan.GatewayOthers {
			return avoidEndpoint(tried, plan.GatewayPicked), true
		}
	}
	if f.gateway {
		a.health.gatewayFailed(plan.Gateway)
		if plan.GatewayPicked == "" {
			a.gatewayDown(plan)
		}
		return avoidGateway(tried, plan.Gateway), plan.Picked != ""
	}
	if plan.Via == DoubleHBONE && plan.Dial.IsValid() && !f.unheard {
		a.health.gatewayWorked(plan) // it was what is behind it that failed
	}
	if plan.Picked == "" {
		return tried, false
	}
	if answered(plan, f.Refusal) {
		a.health.failed(plan.Picked, dst)
	} else {
		a.health.failed(plan.Picked, netip.AddrPort{})
	}
	return avoidEndpoint(tried, plan.Picked), true
}

// final says that trying elsewhere would be wrong: the far end has judged who we are or what we asked.
func final(r *Refusal) bool {
	return r.Status == http.StatusUnauthorized || r.Status == http.StatusBadRequest || r.Reason == ReasonIdentity
}

// answered says that an endpoint failed only for what it was asked for: the proxy in front of it answered, or there is none, and another
// of its ports may be served.
func answered(plan Plan, r *Refusal) bool {
	_, refused := errors.AsType[*hbone.RefusedError](r.Err)
	return refused || plan.Via == Direct
}
