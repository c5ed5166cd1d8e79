// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// stalenessCheckEvery is how precisely a staleness limit is kept; limits are 10 s or more.
const stalenessCheckEvery = 2 * time.Second

// Wish is a remote cluster that somebody wants read.
type Wish struct {
	Kubeconfig []byte
	// StalenessLimit is how long an unreachable cluster's last state stays in use; zero is for ever.
	StalenessLimit time.Duration
	// Linked is when the cluster was linked; zero if that is just happening.
	Linked time.Time
	// KnownUID is the cluster that the id led to when status was last written; empty: none yet.
	KnownUID types.UID
}

// ConnectionState is what the status of a remote cluster is made of. It is a value.
type ConnectionState struct {
	// InUse says that something read from the cluster is in use, and Health is about the connection that it came from, or
	// about the one being made when there is none yet.
	InUse  bool
	Health health
	// Expiry is the end of the credentials that the newest usable kubeconfig holds; zero when they do not say.
	Expiry time.Time
	// Stale says that the last state passed its staleness limit and was dropped.
	Stale bool
	// Reason and Message say why the newest kubeconfig is not in use, if it is not and another one is or may be.
	Reason, Message string
	// Network is the label on the remote system namespace.
	Network string
	// LastChange is when something that was read last changed.
	LastChange time.Time
	// Refused sums up what is malformed.
	Refused refusedFacts
	// PutOff says that news of the cluster wait, because taking in those before took too long.
	PutOff bool
}

// Remotes keeps one connection for every remote cluster that is wished for. A changed kubeconfig is connected and read before the old
// connection ends (make before break); a removed cluster's objects leave the store at once, and nothing of it stays behind.
type Remotes struct {
	log      logr.Logger
	scheme   *runtime.Scheme
	store    *world.Store
	config   world.Config
	localUID types.UID
	notify   func(world.Cluster) // a cluster's state changed; called without locks held
	metrics  *remoteMetrics
	room     int64 // for each cluster, see room

	pacer   pacer
	running sync.WaitGroup // every connection, also those that are ending

	mu      sync.Mutex
	ctx     context.Context // parent of all connections; set by Start
	entries map[world.Cluster]*entry
	owners  map[types.UID]world.Cluster // which id speaks for a cluster
	budgets map[world.Cluster]*budget   // of what may be read, also of ids that nobody wishes for any more, until they are whole again
}

// entry is one cluster id. All fields are guarded by Remotes.mu.
type entry struct {
	digest  [sha256.Size]byte // of the newest kubeconfig, good or bad
	limit   time.Duration
	refusal *KubeconfigError // why the newest kubeconfig is not used
	live    *connection      // feeds the store; nil if nothing of the cluster is in use
	next    *connection      // is being made and will replace live
	stale   bool             // what live knew was dropped because it was too old; next reads anew
	wished  time.Time        // when somebody first did
	read    world.Mark       // when all that live had read was in the store
	told    bool             // all of that was translated
	linked  time.Time        // as the wish says
	known   types.UID        // the same
	found   types.UID        // the cluster that the newest kubeconfig was found to lead to; empty: not known yet
	refused types.UID        // the cluster that the id was last refused to speak for
}

// NewRemotes makes an empty set. localUID is the UID of this cluster's kube-system namespace: kubeconfigs that lead back here are refused.
func NewRemotes(log logr.Logger, scheme *runtime.Scheme, store *world.Store, config world.Config, localUID types.UID, notify func(world.Cluster)) *Remotes {
	return &Remotes{
		log: log, scheme: scheme, store: store, config: config, localUID: localUID, notify: notify, metrics: newRemoteMetrics(nil), room: DefaultRoom,
		entries: map[world.Cluster]*entry{}, owners: map[types.UID]world.Cluster{}, budgets: map[world.Cluster]*budget{},
	}
}

// NeedLeaderElection is false: every replica serves discovery, so every replica reads every cluster.
func (r *Remotes) NeedLeaderElection() bool { return false }

// Start lets connections run until ctx ends, then waits for all of them.
func (r *Remotes) Start(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	ticker := time.NewTicker(stalenessCheckEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			r.running.Wait()
			return nil
		case <-ticker.C:
			r.checkStaleness()
		}
	}
}

// Started says whether Set may be called.
func (r *Remotes) Started() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ctx != nil
}

// Set makes the wishes true: connects to new clusters, replaces connections whose kubeconfig changed, and drops the others.
// A kubeconfig that is refused leaves the previous one in use.
func (r *Remotes) Set(wishes map[world.Cluster]Wish) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.entries {
		if _, ok := wishes[id]; !ok {
			r.drop(id)
		}
	}
	for id, wish := range wishes {
		r.wish(id, wish)
	}
}

// wish needs mu.
func (r *Remotes) wish(id world.Cluster, w Wish) {
	e := r.entries[id]
	if e == nil {
		e = &entry{wished: time.Now()}
		r.entries[id] = e
	}
	e.limit, e.linked, e.known = w.StalenessLimit, w.Linked, w.KnownUID
	defer r.holdKnown(id, e)
	digest := sha256.Sum256(w.Kubeconfig)
	if e.digest == digest {
		return
	}
	e.digest = digest
	kubeconfig, err := ParseKubeconfig(w.Kubeconfig)
	if err != nil {
		if !errors.As(err, &e.refusal) {
			e.refusal = &KubeconfigError{Reason: v1alpha1.ReasonInvalidKubeconfig, Problem: err.Error()}
		}
		r.log.Info("kubeconfig of a remote cluster refused", "cluster", id, "reason", e.refusal.Reason, "message", e.refusal.Error())
		if e.live == nil && e.next != nil {
			return // the one before is all that there is, be it that it reads for the first time, or anew after its state was too old
		}
		e.found = ""
		r.end(e.next)
		e.next = nil
		r.releaseClaims(id, e.live)
		return
	}
	e.refusal, e.found = nil, ""
	r.end(e.next)
	r.releaseClaims(id, e.live)
	e.next = r.begin(id, digest, kubeconfig)
}

// begin needs mu.
func (r *Remotes) begin(id world.Cluster, digest [sha256.Size]byte, kubeconfig *Kubeconfig) *connection {
	ctx, cancel := context.WithCancel(r.ctx)
	c := &connection{
		id: id, digest: digest, config: kubeconfig, scheme: r.scheme, log: r.log,
		feed:      NewFeed(r.store, id, remoteKinds(), r.config.SystemNamespace),
		claim:     func(uid types.UID) (string, string) { return r.claimCluster(id, uid) },
		onSynced:  func(c *connection) { r.promote(id, c) },
		onRefused: func(c *connection) { r.revoke(id, c) },
		onChanged: func() { r.notify(id) },
		cancel:    cancel,
		budget:    r.budget(id),
		pace:      newPace(&r.pacer, r.budget(id)),
	}
	c.feed.room.most = r.room
	c.feed.vetting = &vetting{
		refused: func() { r.metrics.add(id, refusedMalformed, 1) },
		changed: func() { r.notify(id) },
	}
	r.running.Go(func() { c.run(ctx) })
	return c
}

// end closes a connection's way into the store now and lets its goroutines end by themselves; Start waits for them. c may be nil.
func (r *Remotes) end(c *connection) {
	if c != nil {
		c.feed.Close()
		c.cancel()
	}
}

// drop needs mu.
func (r *Remotes) drop(id world.Cluster) {
	e := r.entries[id]
	delete(r.entries, id)
	r.releaseClaims(id, nil)
	r.end(e.live)
	r.end(e.next)
	r.store.DropCluster(id)
	r.metrics.forget(id)
	r.log.Info("remote cluster removed", "cluster", id)
}

// promote lets a connection that has read everything feed the store in place of the one before it.
func (r *Remotes) promote(id world.Cluster, c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil || e.next != c {
		return // replaced or removed meanwhile
	}
	var before *Feed
	if e.live != nil {
		before = e.live.feed
	}
	c.feed.TakeOver(before)
	r.end(e.live)
	e.live, e.next, e.stale = c, nil, false
	e.read, e.told = r.store.Mark(), false
	r.releaseClaims(id, c) // the id may have moved to another cluster
}

// revoke takes out of use what a connection read whose address leads to another cluster by now, and begins anew: the new connection says
// what is wrong until the address leads back. One that has not read everything yet leaves alone what another one read.
func (r *Remotes) revoke(id world.Cluster, c *connection) {
	r.mu.Lock()
	e := r.entries[id]
	if e == nil || e.live != c && e.next != c {
		r.mu.Unlock()
		return // replaced or removed meanwhile
	}
	r.end(c)
	if e.live == c {
		e.live = nil
		r.store.DropCluster(id)
	} else {
		e.next = nil
	}
	if e.next == nil {
		e.next = r.begin(id, c.digest, c.config)
	}
	r.mu.Unlock()
	r.notify(id)
}

// checkStaleness drops what passed its limit, and the connection that it came from: what that one has kept is old when the cluster answers again, and nobody knows what
// happened meanwhile. Another one reads everything before anything of the cluster is in use again.
func (r *Remotes) checkStaleness() {
	var changed []world.Cluster
	r.mu.Lock()
	r.forgetBudgets()
	for id, e := range r.entries {
		if e.live == nil || e.limit == 0 {
			continue
		}
		if h := e.live.health(); h.reachable || h.lostAt.IsZero() || time.Since(h.lostAt) <= e.limit {
			continue
		}
		was := e.live
		r.end(was)
		e.live, e.stale = nil, true
		r.store.DropCluster(id)
		if e.next == nil {
			e.next = r.begin(id, was.digest, was.config)
		}
		changed = append(changed, id)
	}
	r.mu.Unlock()
	for _, id := range changed {
		r.notify(id)
	}
}

// State says how a cluster is doing; false when nobody wished for it.
func (r *Remotes) State(id world.Cluster) (ConnectionState, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		return ConnectionState{}, false
	}
	s := ConnectionState{InUse: e.live != nil, Stale: e.stale, PutOff: r.store.PutOff(id) > 0}
	shown := e.live
	if e.next != nil {
		s.Expiry = e.next.config.Expiry
		if e.live == nil {
			shown = e.next
		} else if h := e.next.health(); h.reason != "" {
			s.Reason, s.Message = h.reason, h.message
		}
	} else if e.live != nil {
		s.Expiry = e.live.config.Expiry
	}
	if shown != nil {
		s.Health = shown.health()
		s.Network, s.LastChange = shown.feed.Facts()
		s.Refused = shown.feed.Refused()
	}
	if e.refusal != nil {
		s.Reason, s.Message = e.refusal.Reason, e.refusal.Error()
	}
	return s, true
}
