// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
)

// strays are workloads that were behind a waypoint by themselves and are not any more: for a while some node proxies have not heard, and their connections are let in as before. One that runs
// goes on anyhow. The Server's Run alone notes them; the rest is safe for any number of goroutines.
type strays struct {
	followed atomic.Pointer[directory.View] // what was looked at last
	mu       sync.Mutex
	since    map[string]time.Time // by UID, when it left
}

// note compares the view that was looked at last with a later one.
func (s *strays) note(c *config, view *directory.View, now time.Time, lasts time.Duration) {
	before := s.followed.Load()
	if before != nil && before != view && c.isWaypoint() {
		s.mu.Lock()
		for was := range view.Former(before) {
			switch is := view.Workload(was.UID); {
			case is == nil || c.behind(view, is):
				delete(s.since, was.UID)
			case c.behind(before, was):
				if s.since == nil {
					s.since = map[string]time.Time{}
				}
				s.since[was.UID] = now
			}
		}
		for uid, left := range s.since {
			if now.Sub(left) >= lasts {
				delete(s.since, uid)
			}
		}
		s.mu.Unlock()
	}
	s.followed.Store(view)
}

// has says whether a workload was behind the waypoint until lately, be it that nobody has noted yet that it left.
func (s *strays) has(c *config, uid string, now time.Time, lasts time.Duration) bool {
	s.mu.Lock()
	left, ok := s.since[uid]
	s.mu.Unlock()
	if ok {
		return now.Sub(left) < lasts
	}
	before := s.followed.Load()
	if before == nil {
		return false
	}
	was := before.Workload(uid)
	return was != nil && c.behind(before, was)
}
