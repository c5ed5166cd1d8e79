// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	// ConnectDeadline is for everything between an application's connect and the 200 of the last hop, with all attempts.
	ConnectDeadline = 10 * time.Second
	// attemptTimeout is for an attempt while there are other endpoints, so that a dead host leaves time for them. The last one has all the
	// time that is left: a busy machine is not a dead one.
	attemptTimeout = 3 * time.Second
	// rumouredTimeout is the same for the first attempt at what somebody else here passes over now: so a host that died costs one pod of a node three seconds, and the others two.
	// A lost SYN is sent again after one second (RFC 6298 §2), which leaves another one for the three round trips of a new tunnel and for a busy host. Whoever needs longer is no
	// worse off: of the ten seconds eight are left, so that the next attempt has its three.
	rumouredTimeout = 2 * time.Second
	// maxAttempts bounds how many endpoints one connection tries. Those that there is no way to are not tried, and do not count.
	maxAttempts = 5
	// doorsOfNetwork is how many gateways of a network a connection finds down before it tries what is elsewhere, if there is anything, rather than the others of that network: a cluster may
	// have more addresses than there are attempts, and is more likely lost as a whole.
	doorsOfNetwork = 2
	// againAfter is when gateways that could not be connected are tried once more, if nothing else is left to try, and twice that when again: behind one address there may be
	// several processes, of which one was just replaced.
	againAfter = 100 * time.Millisecond
)

// Search looks for an endpoint that can be connected, for one connection or one request. What it does to the world is handed in; C is what it finds.
type Search[C any] struct {
	Health *Health
	// Decide plans, and Dial carries the plan out. The deadline of Dial's context is the attempt's.
	Decide func(Choice) (Plan, *Refusal)
	Dial   func(context.Context, Plan) (C, *Failure)
	Random func(uint64) uint64
	// Failed, if set, hears of each attempt that another one follows, or that was the last, and of each endpoint that was picked and that there is no way to.
	Failed func(Plan, *Refusal)
	// Once says that a gateway that could not be connected is not tried again after a pause.
	Once bool
	// Down, if set, hears of plans whose gateway could not be connected, or whose endpoint's own proxy, after that was noted: Tunnels.Watch is for it.
	Down func(Plan)
}

// Failure is a dial that came to nothing.
type Failure struct {
	*Refusal
	// Gateway says that it was the gateway that could not be connected: nothing is known of what is behind it.
	Gateway bool
	// Unheard says that nothing is known of the gateway: it was not asked anything, nor did anything come through it.
	Unheard bool
	// Final says that trying elsewhere would be wrong, and that nobody is to blame.
	Final bool
	// Inside says that the endpoint was connected, and failed in what the caller began with it. Another one is tried; whether this one is passed over from now on is the caller's
	// to remember, by Decide.
	Inside bool
	// hasty says that it was given up before attemptTimeout. That says little: only the source itself passes it over, and no other one hears of it.
	hasty bool
}

// Connect tries endpoints one after the other until one is connected, all within ConnectDeadline. It gives the plan that was used, or the one that
// failed last. What fails for dst only is remembered for dst only.
func (a *Search[C]) Connect(ctx context.Context, dst netip.AddrPort) (Plan, C, *Refusal) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, ConnectDeadline)
	defer cancel()
	var (
		tried      directory.Out
		failedPlan Plan
		why        *Refusal
		none       C
		failing    directory.Out // of what was tried, what failed itself and not its gateway
		again      bool          // a gateway failed
		pause      = againAfter
		doors      = map[string]int{} // gateways that are down, by their networks; nil: they are not counted any more
	)
	for attempts := 0; attempts < maxAttempts; {
		// Health is asked each time: an attempt may take so long that others have found out about the next one. Who was held up once is not asked to find out about another one.
		choice := Choice{Avoid: tried, Ejected: a.Health.out(dst, attempts > 0), Random: a.Random}
		plan, refusal := a.Decide(choice)
		if refusal != nil && plan.Picked == "" && len(tried.Networks) > 0 { // there is nothing elsewhere
			tried.Networks, doors = nil, nil
			choice.Avoid = tried
			plan, refusal = a.Decide(choice)
		}
		if refusal != nil && plan.Picked == "" {
			if why == nil {
				return plan, none, refusal
			}
			if !again || a.Once || !wait(ctx, pause) {
				return failedPlan, none, why // nothing else is left: what went wrong before says more
			}
			tried, again, pause = directory.Out{Endpoints: maps.Clone(failing.Endpoints)}, false, 2*pause
			attempts++
			continue
		}
		if refusal != nil { // there is no way to what was picked, nor to what else is behind that gateway. Nobody was asked, so nobody failed: as soon as a way is known, it is taken.
			if why == nil { // it says less than what was tried
				failedPlan, why = plan, refusal
			}
			a.failed(plan, refusal)
			tried = avoidGateway(avoidEndpoint(tried, plan.Picked), plan.Gateway)
			continue
		}
		attempts++
		a.Health.trying(plan, dst)
		c, failed := a.dialOne(ctx, plan, attempts == 1)
		if failed == nil {
			a.Health.worked(plan, dst)
			return plan, c, nil
		}
		failedPlan, why = plan, failed.Refusal
		a.failed(plan, failed.Refusal)
		if parent.Err() != nil || failed.Final || final(failed.Refusal) {
			break // nobody waits any more, or trying elsewhere would be wrong
		}
		var more bool
		if tried, more = a.blame(plan, failed, dst, tried); !more || ctx.Err() != nil {
			break
		}
		if again = again || failed.Gateway && !accusesUs(failed.Refusal); !failed.Gateway {
			failing = avoidEndpoint(failing, plan.Picked)
		} else if doors != nil && plan.Endpoint != nil {
			if doors[plan.Endpoint.Network]++; doors[plan.Endpoint.Network] == doorsOfNetwork {
				tried = avoidNetwork(tried, plan.Endpoint.Network)
			}
		}
	}
	return failedPlan, none, why
}

func (a *Search[C]) failed(plan Plan, r *Refusal) {
	if a.Failed != nil {
		a.Failed(plan, r)
	}
}

// wait says whether that much of ctx's time was left.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// dialOne gives an attempt a part of the time that is left, if there could be another one. The first one heeds what others say of the plan.
func (a *Search[C]) dialOne(ctx context.Context, plan Plan, first bool) (C, *Failure) {
	began := time.Now()
	if plan.Others || plan.GatewayOthers {
		timeout := attemptTimeout
		if first && a.Health.rumoured(plan) {
			timeout = rumouredTimeout
		}
		if deadline, ok := ctx.Deadline(); ok {
			timeout = min(timeout, time.Until(deadline)/2)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	c, failed := a.Dial(ctx, plan)
	if failed != nil {
		failed.hasty = ctx.Err() != nil && time.Since(began) < attemptTimeout
	}
	return c, failed
}

// blame notes who failed, and gives what not to try again. It says whether there is anything else to try.
func (a *Search[C]) blame(plan Plan, f *Failure, dst netip.AddrPort, tried directory.Out) (directory.Out, bool) {
	if accusesUs(f.Refusal) { // another one may believe us
		if f.Gateway && plan.GatewayPicked != "" && plan.GatewayOthers {
			return avoidEndpoint(tried, plan.GatewayPicked), true
		}
		if f.Gateway {
			tried = avoidGateway(tried, plan.Gateway)
		} else if plan.Picked != "" {
			tried = avoidEndpoint(tried, plan.Picked)
		}
		return tried, plan.Picked != ""
	}
	eject := a.Health.eject
	if f.hasty {
		eject = a.Health.doubt
	}
	if f.Gateway && plan.GatewayPicked != "" {
		eject(ejected{uid: plan.GatewayPicked})
		a.down(plan)
		if plan.GatewayOthers {
			return avoidEndpoint(tried, plan.GatewayPicked), true
		}
	}
	if f.Gateway {
		eject(ejected{gateway: plan.Gateway})
		if plan.GatewayPicked == "" {
			a.down(plan)
		}
		return avoidGateway(tried, plan.Gateway), plan.Picked != ""
	}
	if f.Inside {
		a.Health.worked(plan, dst)
		return avoidEndpoint(tried, plan.Picked), plan.Picked != ""
	}
	if plan.Via == DoubleHBONE && !f.Unheard {
		a.Health.gatewayWorked(plan) // it was what is behind it that failed
	}
	if plan.Picked == "" {
		return tried, false
	}
	if answered(plan, f.Refusal) {
		eject(ejected{uid: plan.Picked, dst: dst})
	} else {
		eject(ejected{uid: plan.Picked})
		if plan.Via == HBONE {
			a.down(plan)
		}
	}
	return avoidEndpoint(tried, plan.Picked), true
}

func (a *Search[C]) down(plan Plan) {
	if a.Down != nil {
		a.Down(plan)
	}
}

// final says that trying elsewhere would be wrong: the far end has judged who we are or what we asked.
func final(r *Refusal) bool {
	return r.Reason == ReasonDenied || r.Status == http.StatusUnauthorized || r.Status == http.StatusBadRequest || r.Reason == ReasonIdentity
}

// answered says that an endpoint failed only for what it was asked for: the proxy in front of it answered, or there is none, and another
// of its ports may be served.
func answered(plan Plan, r *Refusal) bool {
	_, refused := errors.AsType[*hbone.RefusedError](r.Err)
	return refused || plan.Via == Direct
}
