// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// ejectMin and ejectMax bound how long an endpoint that failed is left alone; the time doubles with each failure in a row.
	// 1 s is about what a restarting proxy needs; 30 s is how long a recovered pod may wait for its first stream.
	ejectMin, ejectMax = time.Second, 30 * time.Second
	// maxAvoid bounds how many endpoints one CONNECT may ask to avoid.
	maxAvoid = 64
	// endpointBytes are the bytes in the name of an endpoint: 96 bits, see endpointID.
	endpointBytes = 12
	// sweepAt is how many endpoints are remembered before the first look for those that nobody needs to remember.
	sweepAt = 256
)

// balancer spreads streams over endpoints: the fewest running streams for its capacity first, equals in turn. Endpoints that failed
// lately are left out while others are there, those that are new begin slowly, and farther ones are for when nearer ones are out, if the service wants that.
type balancer struct {
	now  func() time.Time
	slow time.Duration // of the slow start

	mu      sync.Mutex // hold for all below
	known   map[string]*endpointState
	last    map[entry]turn
	turns   uint64 // how many begins there were
	sweepAt int
}

// entry is a port of a service: pods that lack one of a service's ports are nevertheless there for its others.
type entry struct {
	service mesh.ServiceKey
	port    uint16
}

// turn is the last one of an entry.
type turn struct {
	uid string // that had it
	at  uint64 // the balancer's turns then
}

// endpointState is what is remembered of an endpoint, under its UID.
type endpointState struct {
	id      string // opaque name, see endpointID
	active  int    // streams running or being set up
	fails   int    // in a row
	ejected time.Time
	seen    uint64    // the last turn of which it was a candidate
	since   time.Time // begin of its slow start; zero: it had none
	credit  float64   // see starved
}

func newBalancer(now func() time.Time) *balancer {
	return &balancer{now: now, slow: slowStart, known: map[string]*endpointState{}, last: map[entry]turn{}, sweepAt: sweepAt}
}

// endpointID is the name under which a peer learns of an endpoint: the same at every replica of a network's gateways, and for a pod that comes back under
// its name. It is short, not secret: who can guess a pod's name can recognise it. 96 bits: two of a million pods share one with a chance of about 1e-17.
func endpointID(network, uid string) string {
	sum := sha256.Sum256([]byte("isthmus endpoint\x00" + network + "\x00" + uid))
	return base64.RawURLEncoding.EncodeToString(sum[:endpointBytes])
}

// isEndpointID says whether a text has the form of what endpointID gives.
func isEndpointID(s string) bool {
	if len(s) != base64.RawURLEncoding.EncodedLen(endpointBytes) {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// parseAvoid reads the comma-separated ids of x-isthmus-avoid. What is no id of ours is ignored, wherever it stands, and so are ids beyond maxAvoid.
func parseAvoid(value string) map[string]struct{} {
	if value == "" {
		return nil
	}
	out := map[string]struct{}{}
	for id := range strings.SplitSeq(value, ",") {
		if len(out) == maxAvoid {
			break
		}
		if id = strings.Trim(id, " \t"); isEndpointID(id) { // optional white space is these two: RFC 9110, 5.6.3
			out[id] = struct{}{}
		}
	}
	return out
}

// attempt is a question to begin.
type attempt struct {
	network    string
	entry      entry
	candidates []candidate // sorted by UID
	tried      map[string]struct{}
	avoid      map[string]struct{} // opaque ids
	distrusted map[string]struct{} // UIDs of those that failed their handshakes lately, if TLS is to be spoken
}

// standing is where a candidate stands among the others: one is taken only if there is none before it.
type standing struct {
	ejected, starved bool
	rank             int
	avoided          bool
}

// before says whether a stands before b.
func (a standing) before(b standing) bool {
	switch {
	case a.ejected != b.ejected:
		return b.ejected
	case a.starved != b.starved:
		return b.starved
	case a.rank != b.rank:
		return a.rank > b.rank
	default:
		return !a.avoided && b.avoided
	}
}

// begin picks one of the candidates that was not tried, counts a stream on it, and gives its opaque id. It answers false when
// all were tried. Every begin is followed by one end. Of whom a first attempt takes heed that is left out, directory.Heed says.
func (b *balancer) begin(a attempt) (candidate, string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, last := b.now(), b.last[a.entry]
	b.turns++
	total := uint64(0)
	for _, c := range a.candidates {
		total += uint64(c.capacity)
	}
	most, heedless := math.MaxInt, false
	if len(a.tried) == 0 {
		rank, heed := directory.Heed(len(a.candidates), func(i int) (int, uint64, bool) {
			c := &a.candidates[i]
			return c.rank, uint64(c.capacity), b.out(a, c.uid, now)
		})
		if most, heedless = rank, !heed; heedless {
			most = math.MaxInt
		}
	}
	var pick candidate
	var best *endpointState
	var bestStands standing
	for _, c := range a.candidates {
		s := b.meet(a.network, c.uid, last.at, now)
		if _, done := a.tried[c.uid]; done {
			continue
		}
		out := b.out(a, c.uid, now)
		stands := standing{ejected: out && !heedless || c.rank > most, rank: c.rank}
		// Whoever names endpoints to avoid spreads over them by itself, and shall find the new ones.
		stands.starved = !out && b.starved(s, now, uint64(c.capacity), total) && len(a.avoid) == 0
		_, stands.avoided = a.avoid[s.id]
		if best == nil || stands.before(bestStands) || stands == bestStands && prefer(c, s, pick, best, stands.ejected, last.uid) {
			pick, best, bestStands = c, s, stands
		}
	}
	if best == nil {
		return candidate{}, "", false
	}
	best.active++
	best.credit = max(best.credit-1, 0)
	b.last[a.entry] = turn{pick.uid, b.turns}
	return pick, best.id, true
}

// out says whether a candidate is to be left out while there are others. It needs mu.
func (b *balancer) out(a attempt, uid string, now time.Time) bool {
	if _, out := a.distrusted[uid]; out {
		return true
	}
	s := b.known[uid]
	return s != nil && now.Before(s.ejected)
}

// meet finds what is known of a candidate. One that was none when the entry last had a turn is new, or comes back: it begins slowly. At an
// entry's first turn there is nobody to go on in its place. It needs mu.
func (b *balancer) meet(network, uid string, lastTurn uint64, now time.Time) *endpointState {
	s := b.known[uid]
	if s == nil {
		s = &endpointState{id: endpointID(network, uid)}
		b.known[uid] = s
	}
	if lastTurn > 0 && s.seen < lastTurn && b.share(s, now) == 1 {
		s.warmUp(now)
	}
	s.seen = b.turns
	return s
}

// prefer says whether candidate a, which comes after b in the order of UIDs, is a better choice than b.
func prefer(a candidate, as *endpointState, b candidate, bs *endpointState, ejected bool, last string) bool {
	if ejected && !as.ejected.Equal(bs.ejected) {
		return as.ejected.Before(bs.ejected) // whoever is nearest to being let in again
	}
	// active/capacity, compared without dividing.
	aload, bload := uint64(as.active)*uint64(b.capacity), uint64(bs.active)*uint64(a.capacity)
	if aload != bload {
		return aload < bload
	}
	// The first after the last one's turn, around the circle.
	return b.uid <= last && a.uid > last
}

// succeeded clears the endpoint's record: it has just answered.
func (b *balancer) succeeded(uid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.known[uid]; s != nil {
		if now := b.now(); now.Before(s.ejected) { // it was left out for nothing much
			s.since = now
		}
		s.fails, s.ejected = 0, time.Time{}
	}
}

// failed leaves the endpoint out for a while. It says for how long, and whether it was out already: that is no further failure then, for of many streams that were under way there each comes
// back with the news.
func (b *balancer) failed(uid string) (out time.Duration, already bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.known[uid]
	if s == nil {
		return 0, false
	}
	now := b.now()
	if now.Before(s.ejected) {
		return s.ejected.Sub(now), true
	}
	out = ejectMax
	if s.fails < 10 {
		out = min(out, ejectMin<<s.fails)
	}
	s.fails++
	// Up to a fifth more, so that gateways do not all come back to a struggling pod in the same moment.
	out += time.Duration(float64(out) * 0.2 * rand.Float64())
	s.ejected = now.Add(out)
	s.warmUp(s.ejected) // once it is let in again
	return out, false
}

// end counts a stream off an endpoint.
func (b *balancer) end(uid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.known[uid]; s != nil {
		s.active--
	}
}

// sweep forgets endpoints that are gone and idle. It looks only when many are known, so that the cost per endpoint is constant.
func (b *balancer) sweep(alive func(uid string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) < b.sweepAt {
		return
	}
	for entry, turn := range b.last {
		if !alive(turn.uid) {
			delete(b.last, entry)
		}
	}
	for uid, s := range b.known {
		if s.active == 0 && !alive(uid) {
			delete(b.known, uid)
		}
	}
	b.sweepAt = max(sweepAt, 2*len(b.known))
}

// counts says how many endpoints are remembered, and how many of them are left out or begin slowly now.
func (b *balancer) counts() (known, ejected, warming int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for _, s := range b.known {
		if now.Before(s.ejected) {
			ejected++
		} else if b.share(s, now) < 1 {
			warming++
		}
	}
	return len(b.known), ejected, warming
}
