// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Which id speaks for a cluster, if more than one leads to it, or says so: a remote API server can give any UID as its own. It is not for whoever answers first to have it, or
// one that claims to be another could put that one out of use. The id has it that led there before, as its status says, and that holds over restarts and while it cannot be
// reached, until it says itself that it leads elsewhere by now, as two do whose kubeconfigs were exchanged; of those that never led anywhere, the one that was linked first.

// releaseClaims lets an id speak for no cluster but these and the one that a connection leads to, which may be nil. It needs mu.
func (r *Remotes) releaseClaims(id world.Cluster, live *connection, but ...types.UID) {
	if live != nil {
		but = append(but, live.health().uid)
	}
	for uid, owner := range r.owners {
		if owner == id && !slices.Contains(but, uid) {
			delete(r.owners, uid)
		}
	}
}

// holdKnown keeps the cluster that an id is known to lead to from others, until it was found to lead elsewhere. It needs mu.
func (r *Remotes) holdKnown(id world.Cluster, e *entry) {
	if e.known == "" || e.live != nil {
		return
	}
	if owner, taken := r.owners[e.known]; !taken || r.compareClaims(e.known, id, owner) < 0 {
		r.owners[e.known] = id
	}
}

// compareClaims says which of two ids may rather speak for a cluster; 0 if that cannot be said yet, as both are being linked right now. It needs mu.
func (r *Remotes) compareClaims(uid types.UID, a, b world.Cluster) int {
	rank := func(id world.Cluster) (by int, linked time.Time) {
		const (
			known = iota
			new
			elsewhere // it led to another cluster before
			left      // it led there before, and its kubeconfig leads to another one by now
			nobody
		)
		switch e := r.entries[id]; {
		case e == nil:
			return nobody, time.Time{}
		case e.known == uid && e.found != "" && e.found != uid:
			return left, e.linked
		case e.known == uid:
			return known, e.linked
		case e.known == "":
			return new, e.linked
		default:
			return elsewhere, e.linked
		}
	}
	byA, linkedA := rank(a)
	byB, linkedB := rank(b)
	switch {
	case byA != byB:
		return byA - byB
	case linkedA.IsZero() || linkedB.IsZero(): // being linked right now is youngest
		return linkedB.Compare(linkedA)
	}
	return cmp.Or(linkedA.Compare(linkedB), cmp.Compare(a, b))
}

// claimCluster says why the cluster with this kube-system UID must not be read under this id. An id that has it, but not the better claim, loses it, and learns of that with its
// next question.
func (r *Remotes) claimCluster(id world.Cluster, uid types.UID) (reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	// What the connection in use says again of the cluster that it reads is no news of a newer kubeconfig's.
	if e != nil && (e.live == nil || e.next == nil || e.live.health().uid != uid) {
		e.found = uid
	}
	owner, taken := r.owners[uid]
	switch {
	case uid == r.localUID:
		reason, message = v1alpha1.ReasonSelf, fmt.Sprintf("the kubeconfig leads to this very cluster (%q)", r.config.LocalCluster)
	case taken && owner != id && r.compareClaims(uid, owner, id) <= 0:
		reason, message = v1alpha1.ReasonDuplicate, fmt.Sprintf("the kubeconfig leads to the cluster that is already read as %q: delete one of the two, or give one a kubeconfig of another cluster", owner)
	case e != nil:
		r.owners[uid], e.refused = id, ""
		// A remote API server that gives another UID with each answer would otherwise hold all of them, for as long as the id is there.
		r.releaseClaims(id, e.live, uid, e.found, e.known)
	}
	if reason != "" && e != nil && e.refused != uid {
		e.refused = uid
		r.metrics.add(id, refusedIdentity, 1)
	}
	return reason, message
}
