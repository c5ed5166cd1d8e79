// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestPoolWhateverHappens lets pods come, go, fail and recover, certificates and identities change, and connections come and go, at random. Each stream reaches what it asked
// for (the stage looks), what is counted is what there is, and afterwards all is even again, and then forgotten.
func TestPoolWhateverHappens(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 6))
		s := newStage(t, 5)
		s.lanes = int(seed % 4)
		clock := s.until.Add(-time.Hour)
		advance := func(d time.Duration) {
			s.pool.mu.Lock()
			defer s.pool.mu.Unlock()
			clock = clock.Add(d)
			now := clock
			s.pool.now = func() time.Time { return now }
		}
		authorities := []string{"cart.shop.svc.cluster.local:80", "pay.shop.svc.cluster.local:80"}
		capacity := uint32(5)
		var held []*Stream
		for range 150 {
			pod := s.pods[random.IntN(len(s.pods))]
			switch random.IntN(12) {
			default:
				stream, err := s.open(func(r *Request) {
					r.Authority, r.Capacity = authorities[random.IntN(2)], capacity
					if random.IntN(10) == 0 {
						r.Last = append([]mesh.Identity{otherID}, r.Last...)
					}
				})
				if err == nil {
					held = append(held, stream)
				}
			case 6:
				if len(held) > 0 {
					i := random.IntN(len(held))
					closeStream(held[i])
					held = append(held[:i], held[i+1:]...)
				}
			case 7:
				s.set(func() { pod.gone = !pod.gone })
				capacity++
			case 8:
				s.set(func() { pod.broken = !pod.broken })
			case 9:
				s.set(func() {
					if pod.status == 0 {
						pod.status = http.StatusServiceUnavailable
					} else {
						pod.status = 0
					}
				})
			case 10:
				s.set(func() { s.old = !s.old })
			case 11:
				advance(time.Duration(random.IntN(40)) * time.Second)
				s.pool.sweep()
			}
			s.count(len(held))
		}
		for _, stream := range held {
			closeStream(stream)
		}
		s.set(func() {
			s.old = false
			s.until = s.until.Add(time.Hour)
			for _, p := range s.pods {
				p.gone, p.broken, p.status = false, false, 0
			}
		})
		advance(2 * time.Minute)
		hits := map[string]int{}
		call := func() string { return s.call(func(r *Request) { r.Capacity = capacity + 1 }) }
		for range 10 { // it learns of those that are back
			call()
		}
		advance(2 * warmUp)
		for range 50 {
			hits[call()]++
		}
		for _, p := range s.pods {
			if hits[p.name] < 9 {
				t.Errorf("seed %d: afterwards the pods got %v of 50", seed, hits)
			}
		}
		for range 4 {
			advance(idleAfter)
			s.pool.sweep()
		}
		s.soon("all sessions have ended", func() bool {
			s.pool.mu.Lock()
			defer s.pool.mu.Unlock()
			return len(s.pool.all) == 0 && s.pool.total == 0 && len(s.pool.sets) == 0
		})
	}
}

// count holds what the pool has counted against what there is.
func (s *stage) count(streams int) {
	s.t.Helper()
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	sessions, carried := 0, 0
	for _, t := range p.sets {
		sessions += t.sessions()
		if len(t.pods) > maxPods+maxAvoid || t.sessions() > maxOfKey {
			s.t.Errorf("%d pods and %d sessions of a key", len(t.pods), t.sessions())
		}
	}
	for one := range p.all {
		carried += one.streams
	}
	if sessions != p.total || carried != streams {
		s.t.Errorf("%d sessions, %d are counted; %d streams, %d are counted", sessions, p.total, streams, carried)
	}
}
