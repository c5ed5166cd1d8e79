// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

func testRemotes(told *int) *Remotes {
	r := NewRemotes(logr.Discard(), scheme, world.NewStore(), world.Config{LocalCluster: "east", SystemNamespace: "isthmus-system"}, "uid-of-east",
		func(world.Cluster) { *told++ })
	r.ctx = context.Background()
	return r
}

func TestStaleStateIsDroppedAndTakenBack(t *testing.T) {
	var told int
	r := testRemotes(&told)
	feed := NewFeed(r.store, "west", remoteKinds(), "isthmus-system")
	feed.TakeOver(nil)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}
	feed.put(pod)
	live := &connection{id: "west", feed: feed, config: &Kubeconfig{}, state: health{phase: phaseSynced, lostAt: time.Now().Add(-time.Minute), reason: v1alpha1.ReasonUnreachable}}
	r.entries["west"] = &entry{live: live, limit: time.Hour}

	r.checkStaleness()
	if s, _ := r.State("west"); s.Stale || len(r.store.Refs("west")) != 1 || told != 0 {
		t.Fatalf("within the limit: %+v, told %d times", s, told)
	}
	r.entries["west"].limit = 10 * time.Second
	r.checkStaleness()
	feed.put(pod)
	if s, _ := r.State("west"); !s.Stale || s.InUse || len(r.store.Refs("west")) != 0 || told != 1 {
		t.Fatalf("past the limit: %+v, %v, told %d times", s, r.store.Refs("west"), told)
	}
	live.state = health{phase: phaseSynced, reachable: true}
	r.checkStaleness()
	feed.put(pod)
	if s, _ := r.State("west"); s.Stale || !s.InUse || len(r.store.Refs("west")) != 1 || told != 2 {
		t.Fatalf("back again: %+v, told %d times", s, told)
	}
}

func TestNothingPassesAClosedFeed(t *testing.T) {
	store := world.NewStore()
	feed := NewFeed(store, "west", remoteKinds(), "isthmus-system")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}
	for _, step := range []struct {
		name string
		do   func()
		want int
	}{
		{"not open yet", func() {}, 0},
		{"open", func() { feed.TakeOver(nil) }, 1},
		{"closed: what is there stays for the next feed", feed.Close, 1},
		{"closed for ever", func() { store.DropCluster("west"); feed.TakeOver(nil) }, 0},
	} {
		step.do()
		feed.put(pod)
		if got := len(store.Refs("west")); got != step.want {
			t.Errorf("%s: %d objects, want %d", step.name, got, step.want)
		}
	}
}

func TestAKubeconfigThatLeadsBackOrToAKnownClusterIsRefused(t *testing.T) {
	var told int
	r := testRemotes(&told)
	r.entries["west"], r.entries["alias"] = &entry{}, &entry{}
	if reason, _ := r.claimCluster("west", "uid-of-east"); reason != v1alpha1.ReasonSelf {
		t.Errorf("this very cluster: %q", reason)
	}
	if reason, _ := r.claimCluster("west", "uid-of-west"); reason != "" {
		t.Errorf("the first: %q", reason)
	}
	if reason, _ := r.claimCluster("west", "uid-of-west"); reason != "" {
		t.Errorf("the same again, with another credential: %q", reason)
	}
	if reason, _ := r.claimCluster("alias", "uid-of-west"); reason != v1alpha1.ReasonDuplicate {
		t.Errorf("another name for it: %q", reason)
	}
}

func TestAClaimEndsWithTheKubeconfigThatMadeIt(t *testing.T) {
	var told int
	r := testRemotes(&told)
	connect := func() *connection {
		return &connection{feed: NewFeed(r.store, "west", remoteKinds(), "isthmus-system"), cancel: func() {}}
	}
	live := connect()
	live.state.uid = "uid-of-west"
	r.entries["west"] = &entry{live: live, next: connect()}
	for _, uid := range []types.UID{"uid-of-west", "uid-of-north"} { // the new kubeconfig leads to another cluster
		if reason, _ := r.claimCluster("west", uid); reason != "" {
			t.Fatalf("%s cannot be claimed: %s", uid, reason)
		}
	}
	r.wish("west", Wish{Kubeconfig: []byte("nonsense")})
	r.entries["north"] = &entry{}
	if reason, message := r.claimCluster("north", "uid-of-north"); reason != "" {
		t.Errorf("nobody reads the cluster, and it cannot be claimed: %s", message)
	}
	if reason, _ := r.claimCluster("north", "uid-of-west"); reason != v1alpha1.ReasonDuplicate {
		t.Errorf("a cluster that is read can be claimed by another id: %q", reason)
	}
}
