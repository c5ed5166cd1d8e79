// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// Direction is which way a connection goes, seen from the pod.
type Direction string

// The directions, as they stand in the access log.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// Connection is one application connection that the proxy carries, from its acceptance to its end.
type Connection struct {
	Direction Direction
	Tunnel    string // "plain", "hbone" or "double-hbone"
	Opened    time.Time
	Pod       string // "namespace/name" of the local pod
	// Peer is who the other end proved to be; zero for plaintext.
	Peer mesh.Identity
	// Service is what was asked for, "host:port".
	Service string
	// Source is the address the connection came from, and Destination where it was led to.
	Source, Destination netip.AddrPort
	// Network is the one that an inbound peer says it is in, if it said so.
	Network string
	Stats   relay.Stats

	pod    *pod
	self   *mesh.Workload // the local one, as it was known at the beginning
	remote party          // the other end, for metrics
	meant  *mesh.Service
	span   *tracing.Span
	abort  context.CancelCauseFunc
	dry    atomic.Pointer[authz.Verdict] // that was told of policies in dry run last
	// established says that bytes could flow; until then the connection only failed.
	established bool

	telling                sync.Mutex
	told                   bool // of its bytes, as they come, between opened and ended
	toldReceived, toldSent float64
}

// judgement is what the last verdict on an inbound connection was made from; the same again needs no second look.
type judgement struct {
	turn uint64
	self *mesh.Workload
}

// connections knows all that is open, and ends what policy has turned against.
type connections struct {
	mu   sync.Mutex
	open map[*Connection]judgement
}

func newConnections() *connections { return &connections{open: map[*Connection]judgement{}} }

func (c *connections) add(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = judgement{}
}

func (c *connections) remove(conn *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// count is how many are open in a direction.
func (c *connections) count(d Direction) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		if conn.Direction == d {
			n++
		}
	}
	return n
}

// len is how many are open.
func (c *connections) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// list gives what is open, oldest first.
func (c *connections) list() []*Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Connection, 0, len(c.open))
	for conn := range c.open {
		out = append(out, conn)
	}
	slices.SortFunc(out, func(a, b *Connection) int { return cmp.Compare(a.Opened.UnixNano(), b.Opened.UnixNano()) })
	return out
}

// admit puts an inbound connection into the registry and decides on it for the first time, in this order: what changes later finds it there, and what has changed since
// the pod was looked up, such as the policies that it names, counts. It gives the pod as it was judged; remove is the caller's.
func (x *Proxy) admit(conn *Connection) (*mesh.Workload, *Refusal) {
	x.connections.add(conn)
	v, self := x.o.View.Load(), conn.self
	if current := conn.pod.lookup(v); current != nil {
		self = current
	}
	return self, conn.judge(v, self)
}

// judge decides on an inbound connection by a view.
func (conn *Connection) judge(v *directory.View, self *mesh.Workload) *Refusal {
	verdict := conn.pod.proxy.judge.Authorize(v, self, authz.Caller{Peer: conn.Peer, Source: conn.Source.Addr(), Destination: conn.Destination})
	if conn.tellsDry(verdict) {
		conn.pod.proxy.metrics.dryRun.Inc()
		conn.pod.proxy.o.Log.Info("policies in dry run would decide otherwise", "workload", conn.Pod, "peer", conn.Peer.String(),
			"destination", conn.Destination.String(), "allowed", verdict.Allowed, "dryRunAllowed", verdict.DryAllowed, "policy", verdict.DryPolicy)
	}
	if verdict.Allowed {
		return nil
	}
	if verdict.Policy == "" {
		return refuse(statusDenied, reach.ReasonDenied, "no policy allows %s to reach %v", describe(conn.Peer), conn.Destination)
	}
	return refuse(statusDenied, reach.ReasonDenied, "policy %s denies %s to reach %v", verdict.Policy, describe(conn.Peer), conn.Destination)
}

// tellsDry says whether policies in dry run would decide otherwise, and that was not said of this connection before: it is judged again whenever any policy changes.
func (conn *Connection) tellsDry(v authz.Verdict) bool {
	if v.DryAllowed == v.Allowed {
		conn.dry.Store(nil)
		return false
	}
	told := authz.Verdict{Allowed: v.Allowed, DryAllowed: v.DryAllowed, DryPolicy: v.DryPolicy}
	before := conn.dry.Swap(&told)
	return before == nil || *before != told
}

func describe(peer mesh.Identity) string {
	if peer.IsZero() {
		return "a peer without identity"
	}
	return peer.String()
}

// rejudge ends inbound connections that the view's policies no longer allow. There must be one caller at a time.
func (c *connections) rejudge(v *directory.View) {
	for conn, due := range c.due(v) {
		if refusal := conn.judge(v, due.self); refusal != nil {
			conn.abort(&Refusal{Status: refusal.Status, Reason: ReasonRevoked, Err: refusal.Err})
		}
	}
}

// due collects the inbound connections for which something has changed since their last judgement, and marks them as judged.
func (c *connections) due(v *directory.View) map[*Connection]judgement {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := map[*Connection]judgement{}
	for conn, before := range c.open {
		if conn.Direction != Inbound {
			continue
		}
		now := judgement{turn: v.PolicyTurn(), self: conn.self}
		if current := conn.pod.lookup(v); current != nil {
			now.self = current
		}
		if now != before {
			c.open[conn], due[conn] = now, now
		}
	}
	return due
}
