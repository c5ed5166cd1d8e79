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
	// maxEjections bounds what is remembered of one source, and maxAllEjections of all: at about 300 bytes each, 5 MB. Beyond it endpoints are not passed over, only tried.
	maxEjections, maxAllEjections = 4096, 16384
	// sweepPause is how often room is made while there is none, which takes a millisecond.
	sweepPause = time.Second
)

// Healths are those of all sources of a process. What one of them cannot connect may be its own fault (a NetworkPolicy selects pods, and an endpoint may let in some only),
// so each passes over what it failed to connect itself. The others hear of it all the same: they wait for it less long, while there is something else.
type Healths struct {
	now    func() time.Time
	random func() float64 // in [0, 1)

	mu      sync.Mutex // hold for all below, and for ejected of each Health
	sources map[*Health]struct{}
	failing map[ejected]int // how many sources remember it
	all     int             // how much all sources remember
	swept   time.Time       // when it was last looked for what may be forgotten because there was no room
}

// NewHealths is told the time, and chance in [0, 1).
func NewHealths(now func() time.Time, random func() float64) *Healths {
	return &Healths{now: now, random: random, sources: map[*Health]struct{}{}, failing: map[ejected]int{}}
}

// New gives the Health of one more source, which knows of no failure. Close ends it.
func (hs *Healths) New() *Health {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := &Health{Healths: hs, ejected: map[ejected]ejection{}}
	hs.sources[h] = struct{}{}
	return h
}

// Health remembers endpoints and gateways that one source could not connect. It only ever delays their use:
// when nothing else is left they are tried all the same (directory.Pick).
type Health struct {
	*Healths
	ejected map[ejected]ejection
}

// Close forgets all. What fails after that is not remembered.
func (h *Health) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range h.ejected {
		h.drop(key)
	}
	delete(h.sources, h)
}

// set remembers something, if there is room for it. mu is held.
func (h *Health) set(key ejected, e ejection) {
	if _, known := h.ejected[key]; !known {
		if _, alive := h.sources[h]; !alive || !h.hasRoom() {
			return
		}
		h.all++
		h.failing[key]++
	}
	h.ejected[key] = e
}

// drop forgets something. mu is held.
func (h *Health) drop(key ejected) {
	if _, known := h.ejected[key]; !known {
		return
	}
	delete(h.ejected, key)
	h.all--
	if h.failing[key]--; h.failing[key] == 0 {
		delete(h.failing, key)
	}
}

// hasRoom says whether one more can be remembered. mu is held.
func (h *Health) hasRoom() bool {
	full := func() bool { return len(h.ejected) >= maxEjections || h.all >= maxAllEjections }
	if now := h.now(); full() && now.Sub(h.swept) >= sweepPause {
		h.swept = now
		for other := range h.sources {
			other.sweep(now)
		}
	}
	return !full()
}

// rumoured says that others could not connect something that a plan takes. It may be that nobody can.
func (h *Health) rumoured(plan Plan) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == len(h.ejected) {
		return false
	}
	for _, key := range keysOf(plan, netip.AddrPort{}) {
		n := h.failing[key]
		if _, own := h.ejected[key]; own {
			n--
		}
		if n > 0 {
			return true
		}
	}
	return false
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

// NewHealth is for a process that is one source.
func NewHealth(now func() time.Time, random func() float64) *Health {
	return NewHealths(now, random).New()
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
	if known && now.Before(e.until) && !e.trial {
		return
	}
	e.failures, e.trial = e.failures+1, false
	last := min(firstEjection<<min(e.failures-1, 10), lastEjection)
	e.until = now.Add(last + time.Duration(ejectionJitter*h.random()*float64(last)))
	h.set(key, e)
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

// Counts says how many endpoints and gateways some source passes over now.
func (hs *Healths) Counts() (endpoints, gateways int) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	now, seen := hs.now(), map[ejected]struct{}{}
	for h := range hs.sources {
		for key, e := range h.ejected {
			if _, counted := seen[key]; counted || !e.probed && !now.Before(e.until) {
				continue
			}
			seen[key] = struct{}{}
			if key.isGateway() {
				gateways++
			} else {
				endpoints++
			}
		}
	}
	return endpoints, gateways
}

// sweep forgets what is over for as long again as it lasted at most. mu is held.
func (h *Health) sweep(now time.Time) {
	for key, e := range h.ejected {
		if !e.probed && now.After(e.until.Add(lastEjection)) {
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

// avoidGateway adds to out, whose maps are the caller's own.
func avoidGateway(out directory.Out, gateway mesh.GatewayAddress) directory.Out {
	if out.Gateways == nil {
		out.Gateways = map[mesh.GatewayAddress]struct{}{}
	}
	out.Gateways[gateway] = struct{}{}
	return out
}
