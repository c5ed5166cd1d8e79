// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// vipShort is how many services of a cluster have no address here. It is a value.
type vipShort struct {
	unserved int // none is left for them
	waiting  int // they are to be given one later, because the cluster's changes have taken so much writing
}

// vipShortage is what is known of services without an address. It may be used from anywhere.
type vipShortage struct {
	metrics *remoteMetrics
	notify  func(world.Cluster) // what is said of a cluster differs

	mu  sync.Mutex
	now map[world.Cluster]vipShort
}

// of is what is known of one cluster.
func (s *vipShortage) of(c world.Cluster) vipShort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now[c]
}

// set takes what is known now of all that lack something, and counts what was not known.
func (s *vipShortage) set(now map[world.Cluster]vipShort) {
	s.mu.Lock()
	before := s.now
	s.now = now
	s.mu.Unlock()
	for c, n := range now {
		s.metrics.add(c, refusedAddresses, n.unserved-before[c].unserved)
		s.metrics.add(c, refusedHaste, n.waiting-before[c].waiting)
		if n != before[c] {
			s.notify(c)
		}
	}
	for c := range before {
		if now[c] == (vipShort{}) {
			s.notify(c)
		}
	}
}
