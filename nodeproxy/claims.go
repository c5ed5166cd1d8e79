// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// maxClaims is how many different workloads the metrics name on nothing but their own word, and maxClaimsOfPeer how many of them on that of one identity: those of a service
	// account by workload, version, cluster and zone. Those beyond are "unknown" until others were not heard of for seriesIdle.
	maxClaims, maxClaimsOfPeer = 4096, 512
)

// claims are the workloads that were named by other ends only.
type claims struct {
	mu    sync.Mutex
	seen  map[claim]time.Time // when last
	of    map[mesh.Identity]int
	swept time.Time
}

// claim is what somebody, who proved that much, says of itself.
type claim struct {
	peer mesh.Identity
	party
}

func newClaims() *claims { return &claims{seen: map[claim]time.Time{}, of: map[mesh.Identity]int{}} }

// believe gives what the other end says of itself in its baggage. It is good for telemetry only.
func (c *claims) believe(peer mesh.Identity, header string) party {
	b := ParseBaggage(header)
	p := party{workload: b.Workload, service: b.Service, revision: b.Revision, namespace: b.Namespace, cluster: b.Cluster, region: b.Region, zone: b.Zone}
	this, now := claim{peer, p}, time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.seen[this]; !known {
		if c.full(peer) {
			c.sweep(now)
		}
		if c.full(peer) {
			return party{}
		}
		c.of[peer]++
	}
	c.seen[this] = now
	return p
}

// full says whether there is no room for another one of this peer. mu is held.
func (c *claims) full(peer mesh.Identity) bool {
	return c.of[peer] >= maxClaimsOfPeer || len(c.seen) >= maxClaims
}

// sweep forgets what nobody has said for long. mu is held.
func (c *claims) sweep(now time.Time) {
	if now.Sub(c.swept) < seriesSweep {
		return
	}
	c.swept = now
	for this, last := range c.seen {
		if now.Sub(last) < seriesIdle {
			continue
		}
		delete(c.seen, this)
		if c.of[this.peer]--; c.of[this.peer] == 0 {
			delete(c.of, this.peer)
		}
	}
}
