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
	// maxEjections bounds what is remembered of one source, which looks at all of it for each attempt: 20 µs. Beyond it endpoints are not passed over, only tried.
	maxEjections = 512
	// sweepPause is how often it is looked for what may be forgotten.
	sweepPause = time.Second
)

// Health remembers endpoints and gateways that one source could not connect. It only ever delays their use:
// when nothing else is left they are tried all the same (directory.Pick).
type Health struct {
	*Healths

	mu      sync.Mutex // hold for all below: one source never waits for what another one does with its own
	ejected map[ejected]ejection
	swept   time.Time // when it was last looked for what is over
	closed  bool
}

// Close forgets all. What fails after that is not remembered.
func (h *Health) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for key := range h.ejected {
		h.drop(key)
	}
	h.leave(h)
}

// set remembers something, if there is room for it. mu is held.
func (h *Health) set(key ejected, e ejection) bool {
	if _, known := h.ejected[key]; !known && (h.closed || len(h.ejected) >= maxEjections || !h.take()) {
		return false
	}
	h.ejected[key] = e
	return true
}

// drop forgets something. mu is held.
func (h *Health) drop(key ejected) {
	if _, known := h.ejected[key]; known {
		delete(h.ejected, key)
		h.give(key, h)
	}
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
	// prober finds out whether it is back (Tunnels.Watch), so that no connection has to; nil: nobody does.
	prober *probe
}

func (e ejection) probed() bool { return e.prober != nil }

// NewHealth is for a process that is one source.
func NewHealth(now func() time.Time, random func() float64) *Health {
	return NewHealths(now, random).New()
}

// eject counts a failure, and lets the others know. What was passed over already fails no more for that: of many connections that were under way there when it failed each comes back with the news of it, and one
// loss under load would be passed over for as long as one that stays away through many trials.
func (h *Health) eject(key ejected) { h.count(key, true) }

// doubt counts a failure of which nobody else hears: an attempt had less time than it takes to tell whom nobody can connect.
func (h *Health) doubt(key ejected) { h.count(key, false) }

func (h *Health) count(key ejected, tell bool) {
	h.makeRoom(key)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	h.tidy(now)
	e, known := h.ejected[key]
	if known && now.Before(e.until) && !e.trial {
		return
	}
	e.failures, e.trial = e.failures+1, false
	last := min(firstEjection<<min(e.failures-1, 10), lastEjection)
	e.until = now.Add(last + time.Duration(ejectionJitter*h.random()*float64(last)))
	if h.set(key, e) && tell {
		h.tell(key, h, e.until)
	}
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
		if e, known := h.ejected[key]; known && !e.probed() && !now.Before(e.until) {
			e.until, e.trial = now.Add(attemptTimeout), true
			h.set(key, e)
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
		h.drop(key)
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
	h.tidy(now) // or each connection from now on would look at all that ever failed
	for key, e := range h.ejected {
		if (suspects || e.probed() || now.Before(e.until)) && (key.dst == dst || !key.dst.IsValid()) {
			if key.isGateway() {
				out = avoidGateway(out, key.gateway)
			} else {
				out = avoidEndpoint(out, key.uid)
			}
		}
	}
	return out
}

// tidy forgets what is over for as long again as it lasted at most, if it was not looked for lately. mu is held.
func (h *Health) tidy(now time.Time) {
	if now.Sub(h.swept) < sweepPause {
		return
	}
	h.swept = now
	for key, e := range h.ejected {
		if !e.probed() && now.After(e.until.Add(lastEjection)) {
			h.drop(key)
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

// avoidNetwork adds to out, whose maps are the caller's own.
func avoidNetwork(out directory.Out, network string) directory.Out {
	if out.Networks == nil {
		out.Networks = map[string]struct{}{}
	}
	out.Networks[network] = struct{}{}
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
