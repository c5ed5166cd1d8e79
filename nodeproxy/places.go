// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxConnectionsPerPod bounds what one pod may have open through each of its listeners. Beyond it new ones wait in the kernel's queue. Of those to its tunnel port, one identity
// has half at most, so that no peer, whatever it may do in a tunnel, keeps the others out.
const maxConnectionsPerPod = 16384

// fullPause is how often it is logged at most that a listener of a pod is full.
const fullPause = 10 * time.Second

// limits are bounds of each pod.
type limits struct {
	connections int // through each listener
}

// places are those of the connections that one listener may have open.
type places struct {
	taken chan struct{}
	full  func() // hears each time that there is none left
}

// places gives those of one of the pod's listeners.
func (p *pod) places(listener string) *places {
	most := p.proxy.o.limits.connections
	var told time.Time // take has one caller
	return &places{taken: make(chan struct{}, most), full: func() {
		p.proxy.metrics.full.WithLabelValues(listener).Inc()
		if time.Since(told) < fullPause {
			return
		}
		told = time.Now()
		p.proxy.o.Log.Info("a pod has as many connections as it may, and further ones wait", "workload", p.String(), "listener", listener, "limit", most)
	}}
}

// take waits for a place, and is false if ctx ends before there is one.
func (s *places) take(ctx context.Context) bool {
	select {
	case s.taken <- struct{}{}:
		return true
	default:
	}
	s.full()
	select {
	case s.taken <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *places) give() { <-s.taken }

// tunnelSet are the inbound tunnels of a pod.
type tunnelSet struct {
	most int // of one identity

	mu       sync.Mutex
	open     map[*hbone.Conn]mesh.Identity
	of       map[mesh.Identity]int
	draining bool
}

func newTunnelSet(most int) *tunnelSet {
	return &tunnelSet{most: most, open: map[*hbone.Conn]mesh.Identity{}, of: map[mesh.Identity]int{}}
}

// add is false if the peer has as many as it may.
func (t *tunnelSet) add(conn *hbone.Conn, peer mesh.Identity) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[peer] >= t.most {
		return false
	}
	t.of[peer]++
	t.open[conn] = peer
	if t.draining {
		conn.Drain()
	}
	return true
}

func (t *tunnelSet) remove(conn *hbone.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	peer := t.open[conn]
	delete(t.open, conn)
	if t.of[peer]--; t.of[peer] == 0 {
		delete(t.of, peer)
	}
}

// goAway asks the peers of the tunnels that are open now to open new ones.
func (t *tunnelSet) goAway() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for conn := range t.open {
		conn.Drain()
	}
}

// drain does so for the later ones too.
func (t *tunnelSet) drain() {
	t.mu.Lock()
	t.draining = true
	t.mu.Unlock()
	t.goAway()
}
