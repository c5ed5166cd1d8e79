// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

const (
	// pendingRetry is the pause between attempts to serve a pod whose listeners could not be opened.
	pendingRetry = 5 * time.Second
	// departure is how long connections of a pod that is gone may go on, from when discovery has forgotten it: one that left the mesh and goes on running has all of the time to drain. Tunnels of a dead pod end
	// in half of that, by their PINGs.
	departure = time.Minute
	// farewell is how long a pod that left still accepts: one that goes on running outside of the mesh is tunnelled to until the control
	// plane has heard of it and told everybody.
	farewell = 10 * time.Second
)

// pods are the ones that the agent handed over. It implements zds.StateHandler.
type pods struct {
	proxy *Proxy

	mu      sync.Mutex
	serving map[string]*pod
	// departing are those that are no longer served, and still have connections.
	departing map[*pod]*departing
	// pending are those that could not be served yet, and are tried again.
	pending map[string]*waitingPod
	// named are those that the agent named on this connection, until the snapshot is complete.
	named     map[string]struct{}
	connected bool
	complete  bool // a snapshot was received at some time
}

// departing is a pod on its way out. Guarded by the mu of pods.
type departing struct {
	back  chan struct{} // closed when it is served again
	final bool          // it accepts no more, or somebody else does in its place
}

type waitingPod struct {
	workload  zds.Workload
	namespace *Namespace
	err       error
	timer     *time.Timer
}

func newPods(proxy *Proxy) *pods {
	return &pods{proxy: proxy, serving: map[string]*pod{}, departing: map[*pod]*departing{}, pending: map[string]*waitingPod{}, named: map[string]struct{}{}}
}

// Connected begins and ends a connection of the agent. What is served goes on.
func (ps *pods) Connected(up bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.connected = up
	ps.named = map[string]struct{}{}
}

// Add begins to serve a pod. The same pod in the same namespace is left as it is; if it terminates by now, its peers are sent elsewhere.
func (ps *pods) Add(_ context.Context, w zds.Workload, netns *os.File) error {
	namespace, err := NewNamespace(netns)
	if err != nil {
		return err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.named[w.UID] = struct{}{}
	ps.forget(w.UID)
	return ps.serve(w, namespace)
}

// serve owns namespace. ps.mu is held.
func (ps *pods) serve(w zds.Workload, namespace *Namespace) error {
	terminating := w.Terminating
	w.Terminating = false // it does not make another pod of it
	old := ps.serving[w.UID]
	if old == nil {
		old = ps.recall(w, namespace.ID())
	}
	if old != nil && old.namespace.ID() == namespace.ID() && old.info == w {
		shut(namespace)
		if terminating {
			// Whoever means this pod is served to its end, in tunnels that begin from here on. Discovery says nothing of a pod that was not ready before.
			old.tunnelsIn.goAway()
		}
		return nil
	}
	fresh, err := ps.proxy.startPod(w, namespace)
	if err != nil {
		err = fmt.Errorf("serve pod %s/%s: %w", w.Namespace, w.Name, err)
		waiting := &waitingPod{workload: w, namespace: namespace, err: err}
		waiting.timer = time.AfterFunc(pendingRetry, func() { ps.retry(waiting) })
		ps.pending[w.UID] = waiting
		return err
	}
	ps.serving[w.UID] = fresh
	ps.proxy.podsChanged()
	ps.proxy.metrics.podsStarted.Inc()
	switch {
	case old == nil:
	case old.namespace.ID() == namespace.ID():
		ps.stop(old, 0) // the fresh one has its sockets
	default:
		ps.stop(old, farewell)
	}
	return nil
}

func (ps *pods) retry(waiting *waitingPod) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.pending[waiting.workload.UID] != waiting {
		return
	}
	delete(ps.pending, waiting.workload.UID)
	if err := ps.serve(waiting.workload, waiting.namespace); err != nil {
		ps.proxy.o.Log.Error(err, "pod still cannot be served", "workload", waiting.workload.Namespace+"/"+waiting.workload.Name)
	}
}

// forget drops a pod that is waiting. ps.mu is held.
func (ps *pods) forget(uid string) {
	if waiting := ps.pending[uid]; waiting != nil {
		waiting.timer.Stop()
		shut(waiting.namespace)
		delete(ps.pending, uid)
	}
}

// Keep lets a pod go on that the agent knows, but has no namespace for.
func (ps *pods) Keep(uid string) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.named[uid] = struct{}{}
	if ps.serving[uid] == nil {
		return fmt.Errorf("pod %s is not served here", uid)
	}
	return nil
}

// Del ends a pod: its containers have ended, or it left the mesh.
func (ps *pods) Del(uid string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.named, uid)
	ps.forget(uid)
	if old := ps.serving[uid]; old != nil {
		delete(ps.serving, uid)
		ps.stop(old, farewell)
	}
}

// SnapshotSent ends the pods that the agent did not name.
func (ps *pods) SnapshotSent() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.complete = true
	for uid, old := range ps.serving {
		if _, ok := ps.named[uid]; !ok {
			delete(ps.serving, uid)
			ps.stop(old, farewell)
		}
	}
	for uid := range ps.pending {
		if _, ok := ps.named[uid]; !ok {
			ps.forget(uid)
		}
	}
	ps.proxy.o.Log.Info("snapshot of pods received", "pods", len(ps.serving), "pending", len(ps.pending))
}

// recall has a pod be served again that left and has come back, and gives it, if it still accepts: what it has accepted is as good as what it will. Otherwise it is nil. ps.mu is held.
func (ps *pods) recall(w zds.Workload, id NamespaceID) *pod {
	for left, d := range ps.departing {
		if !d.final && left.info == w && left.namespace.ID() == id {
			delete(ps.departing, left)
			close(d.back)
			ps.serving[w.UID] = left
			ps.proxy.podsChanged()
			ps.proxy.metrics.podsStarted.Inc()
			return left
		}
	}
	return nil
}

// stop drains a pod without waiting for it, after a grace in which it still accepts; the proxy waits for all at its own end. One that only left the mesh keeps what is
// open for a while; one that has died is done as soon as its peers have noticed. ps.mu is held.
func (ps *pods) stop(old *pod, grace time.Duration) {
	ps.proxy.metrics.podsStopped.Inc()
	d := &departing{back: make(chan struct{}), final: grace == 0}
	ps.departing[old] = d
	ps.proxy.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ps.proxy.o.Drain)
		defer cancel()
		select {
		case <-time.After(min(grace, ps.proxy.o.Drain/4)):
		case <-d.back:
			return
		}
		ps.mu.Lock()
		leaves := ps.departing[old] == d // and has not come back, and left once more
		d.final = true
		ps.mu.Unlock()
		if !leaves {
			return
		}
		ps.proxy.running.Go(func() { old.outlive(ctx, cancel) })
		old.drain(ctx, 0)
		ps.mu.Lock()
		defer ps.mu.Unlock()
		delete(ps.departing, old)
		ps.proxy.podsChanged()
	})
}

// obstructed says that a pod cannot be served for what its own containers do: they listen on a port that is ours. No other proxy could serve it either, so that nobody gains if this one
// is not ready, and whoever may put pods on the node could keep it from being upgraded.
func (w *waitingPod) obstructed() bool { return errors.Is(w.err, unix.EADDRINUSE) }

// obstructed gives why such pods are not served.
func (ps *pods) obstructed() []string {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []string
	for _, waiting := range ps.pending {
		if waiting.obstructed() {
			out = append(out, waiting.err.Error())
		}
	}
	slices.Sort(out)
	return out
}

// waits says what is still missing before new pods can be served.
func (ps *pods) waits() []string {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []string
	if !ps.connected {
		out = append(out, "agent connection")
	}
	if !ps.complete {
		out = append(out, "pod snapshot")
	}
	for _, waiting := range ps.pending {
		if !waiting.obstructed() {
			out = append(out, waiting.err.Error())
		}
	}
	return out
}

// known says that the agent has named all pods at some time.
func (ps *pods) known() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.complete
}

func (ps *pods) list() []*pod {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	out := make([]*pod, 0, len(ps.serving))
	for _, p := range ps.serving {
		out = append(out, p)
	}
	return out
}

// all gives the pods that are served and those that are departing.
func (ps *pods) all() []*pod {
	out := ps.list()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.AppendSeq(out, maps.Keys(ps.departing))
}

// succeeded says whether another pod is served under a pod's name, as a StatefulSet's next one is: then that one is gone, whatever discovery knows by this name.
func (ps *pods) succeeded(old zds.Workload) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for uid, p := range ps.serving {
		if uid != old.UID && p.info.Namespace == old.Namespace && p.info.Name == old.Name {
			return true
		}
	}
	return false
}

func (ps *pods) counts() (serving, pending int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.serving), len(ps.pending)
}

// close forgets what waits; what is served is ended by the proxy.
func (ps *pods) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for uid := range ps.pending {
		ps.forget(uid)
	}
}
