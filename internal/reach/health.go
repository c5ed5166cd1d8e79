// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// firstEjection is how long an endpoint is passed over after its first failure; it doubles with each further one in a row. One
	// second is about what discovery needs to tell of a pod that ended.
	firstEjection = time.Second
	lastEjection  = 30 * time.Second
	// ejectionJitter is how much longer an ejection may last by chance, so that the proxies of many nodes do not come back at once.
	ejectionJitter = 0.25
	// maxEjections bounds what is remembered. Beyond it endpoints are not passed over, only tried.
	maxEjections = 4096
)

// Health remembers endpoints and gateways that could not be connected, for all pods of the node together. It only ever delays their use:
// when nothing else is left they are tried all the same (directory.Pick).
type Health struct {
	now    func() time.Time
	random func() float64 // in [0, 1)

	mu      sync.Mutex
	ejected map[ejected]ejection
}

// ejected names an endpoint, and what it was dialled for: it may refuse one of its ports and serve another. The zero address stands for
// all that it has. A gateway is named instead by how it is reached.
type ejected struct {
	uid     string
	dst     netip.AddrPort
	gateway mesh.GatewayAddress
}

func (e ejected) isGateway() bool { return e.gateway != mesh.GatewayAddress{} }

type ejection struct {
	failures int // in a row, see eject
	until    time.Time
	// trial says that until is as it is because somebody tries it at the moment.
	trial bool
	// probed says that somebody finds out by himself whether it is back (Tunnels.Watch): no connection has to.
	probed bool
}

func NewHealth(now func() time.Time, random func() float64) *Health {
	return &Health{now: now, random: random, ejected: map[ejected]ejection{}}
}

// failed notes a failure to connect to an endpoint for dst. One that did not answer at all is passed over for everything; it says so by the
// zero dst.
func (h *Health) failed(uid string, dst netip.AddrPort) { h.eject(ejected{uid: uid, dst: dst}) }

// gatewayFailed notes that a gateway could not be connected.
func (h *Health) gatewayFailed(gateway mesh.GatewayAddress) { h.eject(ejected{gateway: gateway}) }

// eject counts a failure. What was passed over already fails no more for that: of many connections that were under way there when it failed each comes back with the news of it, and one
// loss under load would be passed over for as long as one that stays away through many trials.
func (h *Health) eject(key ejected) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	e, known := h.ejected[key]
	if !known && len(h.ejected) >= maxEjections {
		h.sweep(now)
		if len(h.ejected) >= maxEjections {
			return
		}
	}
	if known && now.Before(e.until) && !e.trial {
		return
	}
	e.failures, e.trial = e.failures+1, false
	last := min(firstEjection<<min(e.failures-1, 10), lastEjection)
	e.until = now.Add(last + time.Duration(ejectionJitter*h.random()*float64(last)))
	h.ejected[key] = e
}

// trying says that a plan is about to be tried. What failed before, and may be used again, is kept from the others until this one knows
// better, or for as long as an attempt may take.
func (h *Health) trying(plan Plan, dst netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ejected) == 0 {
		return
	}
	now := h.now()
	for _, key := range keysOf(plan, dst) {
		if e, known := h.ejected[key]; known && !e.probed && !now.Before(e.until) {
			e.until, e.trial = now.Add(attemptTimeout), true
			h.ejected[key] = e
		}
	}
}

// worked forgets the failures of all that a plan took, which was connected for dst.
func (h *Health) worked(plan Plan, dst netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ejected) == 0 {
		return
	}
	for _, key := range keysOf(plan, dst) {
		delete(h.ejected, key)
	}
}

// gatewayWorked forgets the failures of a gateway that answered, whatever it said.
func (h *Health) gatewayWorked(plan Plan) {
	h.worked(Plan{Gateway: plan.Gateway, Picked: plan.GatewayPicked}, netip.AddrPort{})
}

// keysOf are the names under which a plan's failures are kept. Names of nothing are never failed, so they are harmless.
func keysOf(plan Plan, dst netip.AddrPort) [4]ejected {
	return [4]ejected{{uid: plan.Picked, dst: dst}, {uid: plan.Picked}, {uid: plan.GatewayPicked}, {gateway: plan.Gateway}}
}

// out gives what to pass over now for dst. suspects says that this is also what failed lately and is to be tried again by somebody.
func (h *Health) out(dst netip.AddrPort, suspects bool) directory.Out {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out directory.Out
	if len(h.ejected) == 0 {
		return out
	}
	now := h.now()
	h.sweep(now) // or each connection from now on would look at all that ever failed
	for key, e := range h.ejected {
		if (suspects || e.probed || now.Before(e.until)) && (key.dst == dst || !key.dst.IsValid()) {
			if key.isGateway() {
				out = avoidGateway(out, key.gateway)
			} else {
				out = avoidEndpoint(out, key.uid)
			}
		}
	}
	return out
}

// Counts says how many endpoints and gateways are passed over now.
func (h *Health) Counts() (endpoints, gateways int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for key, e := range h.ejected {
		switch {
		case !e.probed && !now.Before(e.until):
		case key.isGateway():
			gateways++
		default:
			endpoints++
		}
	}
	return endpoints, gateways
}

// sweep forgets what is over for as long again as it lasted at most. mu is held.
func (h *Health) sweep(now time.Time) {
	for key, e := range h.ejected {
		if !e.probed && now.After(e.until.Add(lastEjection)) {
			delete(h.ejected, key)
		}
	}
}

// avoidEndpoint adds to out, whose maps are the caller's own.
func avoidEndpoint(out directory.Out, uid string) directory.Out {
	if out.Endpoints == nil {
		out.Endpoints = map[string]struct{}{}
	}
	out.Endpoints[uid] = struct{}{}
	return out
}

// avoidGateway adds to out, whose maps are the caller's own.
func avoidGateway(out directory.Out, gateway mesh.GatewayAddress) directory.Out {
	if out.Gateways == nil {
		out.Gateways = map[mesh.GatewayAddress]struct{}{}
	}
	out.Gateways[gateway] = struct{}{}
	return out
}
