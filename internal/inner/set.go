// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Key is everything that makes two sets of sessions different. A Pool belongs to one source pod.
type Key struct {
	// Source is the identity that is proved to gateway and last hop.
	Source mesh.Identity
	// Network, Gateway and Dial say through where: the network's gateway, and the address at which it was dialled.
	Network string
	Gateway mesh.GatewayAddress
	Dial    string
	// Authority is the service and the port that were asked for. A gateway may allow one port and not another, so sessions are not shared among them.
	Authority string
}

const (
	// firstOut is how long a pod is passed over after its first failure, doubling with each in a row up to lastOut, and up to a quarter longer by chance; as for
	// endpoints that are dialled directly.
	firstOut, lastOut = time.Second, 30 * time.Second
	// allFor is for how long it is believed that a gateway has no other pod to give: those that it passes over itself come back within half a minute.
	allFor = 30 * time.Second
	// askAgain is after how long without a question the gateway is asked once more, at the cost of a session: discovery does not tell of all that counts there, as which pods are near.
	askAgain = 5 * time.Minute
)

// set are the sessions of one key. Guarded by the Pool's mu.
type set struct {
	key      Key
	pods     map[string]*pod
	since    map[string]time.Time // when pods were first reached, of those that are reached or were lately
	opening  []*session
	widening int // sessions that are being opened beside others, see widen
	turns    uint64
	ready    int       // see coverage
	allUntil time.Time // until when the gateway is believed to have no other pod
	capacity uint32    // what discovery said when the gateway was asked last
	asked    time.Time // when that was; zero: never
	plain    bool      // the gateway names no pods
	hold     time.Time // until when no more pods are sought, because the gateway opened none
	used     time.Time // when it was last asked for
}

// state gives what choose decides by: options, what is behind each of them, and how many pods are reached. Pods that were tried are left out.
func (t *set) state(tried []string, now time.Time, wait bool) (options []option, who []any, held int, excluded bool) {
	for _, p := range t.pods {
		if len(p.sessions) > 0 {
			held++
		}
		if slices.Contains(tried, p.name) {
			excluded = true
			continue
		}
		if len(p.sessions) > 0 {
			load, room := p.load()
			options, who = append(options, option{load: load, late: p.late.of(now), share: p.share(now), room: room, out: now.Before(p.until), turn: p.turn}), append(who, p)
		}
	}
	if !wait {
		return options, who, held, excluded
	}
	for _, s := range t.opening {
		// What waits for it came lately, as reached has it. They come behind pods that carry as much: a stream that need not wait does not.
		options, who = append(options, option{load: s.streams, late: float64(s.streams), share: leastShare, room: s.streams < s.limit, turn: t.turns}), append(who, s)
	}
	return options, who, held, excluded
}

func (t *set) coverage(capacity uint32, now time.Time) coverage {
	return coverage{ready: t.ready, all: now.Before(t.allUntil), news: !t.asked.IsZero() && (capacity != t.capacity || now.Sub(t.asked) >= askAgain)}
}

// avoid lists the pods that a new session should not reach, for the gateway: those that failed lately, and those that are reached, if it seeks another one than these, or none but one. These come
// first, if there are more than fit.
func (t *set) avoid(now time.Time, seeks bool, but *pod) string {
	known := make([]*pod, 0, len(t.pods))
	for _, p := range t.pods {
		if p != but && (seeks && len(p.sessions) > 0 || now.Before(p.until)) {
			known = append(known, p)
		}
	}
	slices.SortFunc(known, func(a, b *pod) int {
		if len(a.sessions) > 0 != (len(b.sessions) > 0) {
			return len(b.sessions) - len(a.sessions)
		}
		return strings.Compare(a.name, b.name)
	})
	names := make([]string, 0, maxAvoid)
	for _, p := range known[:min(len(known), maxAvoid)] {
		names = append(names, p.name)
	}
	return strings.Join(names, ",")
}

// reached files a session under the pod that it turned out to reach, and learns from what the gateway said.
func (t *set) reached(s *session, now time.Time) {
	p := t.pods[s.Pod]
	if p == nil {
		p = &pod{name: s.Pod}
		t.pods[s.Pod] = p
	}
	if s.seeks && len(p.sessions) > 0 && len(t.opening) == 0 {
		// It was asked for another one, and nobody else can have taken that meanwhile.
		t.allUntil = now.Add(allFor)
	}
	if !s.beside { // whoever opens another lane seeks nothing, and asks of no pod but this one whether it is there
		t.told(s.Ready, s.capacity, now)
	}
	if len(p.sessions) == 0 {
		// A pod that has joined is no better than the others because it has no past, and for a while it gets less.
		p.since, p.late = t.met(p.name, now), recency{}
		p.late.add(max(t.late(now)*p.share(now), float64(s.streams)), now)
	}
	t.turns++
	p.turn = t.turns
	p.sessions = append(p.sessions, s)
	s.pod = p
}

// told notes how many pods there are to choose from, as the gateway said when it was asked.
func (t *set) told(ready int, capacity uint32, now time.Time) {
	if ready != t.ready {
		t.ready = ready
		if t.ready > t.held() {
			t.allUntil = time.Time{}
		}
	}
	t.capacity, t.asked = capacity, now
}

// lost is how many pods are not reached because they failed lately.
func (t *set) lost(now time.Time) (n int) {
	for _, p := range t.pods {
		if len(p.sessions) == 0 && now.Before(p.until) {
			n++
		}
	}
	return n
}

// late is how many streams were given lately to a pod that is reached, on average, if each had its whole share.
func (t *set) late(now time.Time) float64 {
	sum, n := 0.0, 0
	for _, p := range t.pods {
		if len(p.sessions) > 0 {
			sum += p.late.of(now) / p.share(now)
			n++
		}
	}
	return sum / float64(max(n, 1))
}

// held is how many pods are reached.
func (t *set) held() (n int) {
	for _, p := range t.pods {
		if len(p.sessions) > 0 {
			n++
		}
	}
	return n
}

// failed has a pod passed over for a while. Of many streams that find the same failure the first one counts.
func (t *set) failed(name string, now time.Time) {
	p := t.pods[name]
	if p == nil {
		if len(t.pods) >= maxPods+maxAvoid {
			return
		}
		p = &pod{name: name}
		t.pods[name] = p
	}
	if now.Before(p.until) {
		return
	}
	p.fails++
	last := min(firstOut<<min(p.fails-1, 10), lastOut)
	p.until = now.Add(last + time.Duration(rand.Int64N(int64(last)/4)))
}

// worked forgets a pod's failures.
func (p *pod) worked() { p.fails, p.until = 0, time.Time{} }

// forget drops what is known of pods that no session reaches and that failed long ago.
func (t *set) forget(now time.Time) {
	for name, p := range t.pods {
		if len(p.sessions) == 0 && now.After(p.until.Add(lastOut)) {
			delete(t.pods, name)
		}
	}
}

// surplus says that a session without streams is one too many: another one reaches its pod in the same lane.
func (s *session) surplus() bool {
	return s.streams == 0 && s.pod != nil && slices.ContainsFunc(s.pod.sessions, func(other *session) bool { return other != s && other.lane == s.lane })
}
