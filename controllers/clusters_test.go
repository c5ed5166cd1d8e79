// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

func testRemotes() *Remotes {
	r := NewRemotes(logr.Discard(), scheme, world.NewStore(), world.Config{LocalCluster: "east", SystemNamespace: "isthmus-system"}, "uid-of-east",
		func(world.Cluster) {})
	r.ctx = context.Background()
	return r
}

// lostRemotes are Remotes whose connections lead nowhere, and end with the test.
func lostRemotes(t *testing.T) *Remotes {
	r := testRemotes()
	ctx, cancel := context.WithCancel(t.Context())
	r.ctx, r.notify = ctx, func(world.Cluster) {}
	t.Cleanup(func() {
		cancel()
		r.running.Wait()
	})
	return r
}

// reads gives a connection that has read one pod, and leads nowhere.
func reads(r *Remotes, pod string) *connection {
	feed := NewFeed(r.store, "west", remoteKinds(), "isthmus-system")
	feed.attached = []following{func() []any { return []any{&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: pod}}} }}
	return &connection{
		id: "west", feed: feed, config: &Kubeconfig{Config: &rest.Config{Host: "https://127.0.0.1:1"}}, cancel: func() {}, onChanged: func() {},
		state: health{phase: phaseSynced, reachable: true},
	}
}

// podsOf are those in use.
func podsOf(r *Remotes) (names []string) {
	for _, ref := range r.store.Refs("west") {
		names = append(names, ref.Name)
	}
	return names
}

// TestStaleStateIsReadAnew: what passed its limit comes back when it was read anew, and not when the cluster answers again.
func TestStaleStateIsReadAnew(t *testing.T) {
	r := lostRemotes(t)
	live := reads(r, "old")
	r.entries["west"] = &entry{next: live, limit: time.Hour}
	r.promote("west", live)
	live.update(func(h *health) { h.reachable, h.lostAt = false, time.Now().Add(-time.Minute) })
	check := func(when string, stale bool, want ...string) {
		t.Helper()
		if s, _ := r.State("west"); s.Stale != stale || s.InUse != (len(want) > 0) || !slices.Equal(podsOf(r), want) {
			t.Fatalf("%s: stale is %v, want %v; in use are %v, want %v", when, s.Stale, stale, podsOf(r), want)
		}
	}
	r.checkStaleness()
	check("within the limit", false, "old")
	r.mu.Lock()
	r.entries["west"].limit = 10 * time.Second
	r.mu.Unlock()
	r.checkStaleness()
	check("past the limit", true)
	live.update(func(h *health) { h.reachable, h.lostAt = true, time.Time{} })
	live.feed.put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "old"}})
	r.checkStaleness()
	check("the cluster answers again", true)
	r.mu.Lock()
	next := r.entries["west"].next
	r.mu.Unlock()
	if next == nil || next == live {
		t.Fatal("nobody reads it anew")
	}
	next.feed.attached = reads(r, "new").feed.attached
	r.promote("west", next)
	check("all was read", false, "new")
}

// TestAConnectionThatTurnsForeignBeginsAnew: whether it was in use or read for the first time, and what another one read stays.
func TestAConnectionThatTurnsForeignBeginsAnew(t *testing.T) {
	for _, tc := range []struct {
		name          string
		before, first bool // another one is in use; it reads for the first time
		want          []string
	}{
		{"in use", false, false, nil},
		{"in its first read", false, true, nil},
		{"in its first read, to take over from another", true, true, []string{"old"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := lostRemotes(t)
			e := &entry{}
			r.entries["west"] = e
			if tc.before {
				e.next = reads(r, "old")
				r.promote("west", e.next)
			}
			foreign := reads(r, "foreign")
			e.next = foreign
			if !tc.first {
				r.promote("west", foreign)
			}
			r.revoke("west", foreign)
			r.promote("west", foreign) // it had read everything just now
			r.mu.Lock()
			next := e.next
			r.mu.Unlock()
			if next == nil || next == foreign {
				t.Error("nobody asks whether the address leads back")
			}
			if !slices.Equal(podsOf(r), tc.want) {
				t.Errorf("in use are %v, want %v", podsOf(r), tc.want)
			}
		})
	}
}

// TestHeard: a cluster was heard of when all of it was translated, and not while nothing of it is in use.
func TestHeard(t *testing.T) {
	r := lostRemotes(t)
	check := func(when string, want bool, unheard ...world.Cluster) {
		t.Helper()
		if got := r.Heard()["west"].all; got != want || !slices.Equal(r.Unheard(), unheard) {
			t.Errorf("%s: heard of is %v, want %v; %v are waited for, want %v", when, got, want, r.Unheard(), unheard)
		}
	}
	take := func(within time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, _ = r.store.Take(ctx) // nothing may be there to take
	}
	live := reads(r, "p")
	r.entries["west"] = &entry{next: live, wished: time.Now(), limit: time.Minute}
	check("not read", false, "west")
	r.promote("west", live)
	check("read", false, "west")
	take(time.Minute)
	check("being translated", false, "west")
	take(time.Millisecond)
	check("translated", true)
	first := r.Heard()["west"]
	live.feed.put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "later"}})
	if check("later news", true); r.Heard()["west"] != first {
		t.Error("later news make it another cluster")
	}
	live.update(func(h *health) { h.reachable, h.lostAt = false, time.Now().Add(-time.Hour) })
	r.checkStaleness()
	check("stale", false)
	r.mu.Lock()
	next := r.entries["west"].next
	r.mu.Unlock()
	r.promote("west", next)
	take(time.Minute)
	take(time.Millisecond)
	if check("read anew", true); r.Heard()["west"] == first {
		t.Error("nobody can tell that it was not heard of meanwhile")
	}
}

// TestARefusedKubeconfigIsNoEnd: a controller that starts while what was written last cannot be used does not say that it knows everything without the cluster, if that was in use before.
func TestARefusedKubeconfigIsNoEnd(t *testing.T) {
	for _, tc := range []struct {
		name string
		wish Wish
		want bool
	}{
		{"it was read before", Wish{Kubeconfig: []byte("nonsense"), KnownUID: "uid-of-west"}, true},
		{"it never was", Wish{Kubeconfig: []byte("nonsense")}, false},
	} {
		r := testRemotes()
		r.Set(map[world.Cluster]Wish{"west": tc.wish})
		if got := len(r.Unheard()) == 1; got != tc.want {
			t.Errorf("%s: waited for is %v, want %v", tc.name, got, tc.want)
		}
		r.mu.Lock()
		e := r.entries["west"]
		e.limit, e.wished = time.Minute, time.Now().Add(-time.Hour)
		r.mu.Unlock()
		if got := r.Unheard(); len(got) > 0 {
			t.Errorf("%s: %v is waited for though its state would be too old", tc.name, got)
		}
		r.Set(nil)
		if got := r.Unheard(); len(got) > 0 {
			t.Errorf("%s: %v is waited for though nobody wishes for it", tc.name, got)
		}
	}
}

// TestARefusedKubeconfigEndsNoRead: what reads a cluster for the first time, or anew after its state was too old, goes on though what is written meanwhile cannot be used.
func TestARefusedKubeconfigEndsNoRead(t *testing.T) {
	for name, stale := range map[string]bool{"the first read": false, "past the staleness limit": true} {
		t.Run(name, func(t *testing.T) {
			r := lostRemotes(t)
			next := reads(r, "p")
			r.entries["west"] = &entry{next: next, stale: stale}
			if reason, message := r.claimCluster("west", "uid-of-west"); reason != "" {
				t.Fatal(message)
			}
			r.Set(map[world.Cluster]Wish{"west": {Kubeconfig: []byte("nonsense")}})
			if s, _ := r.State("west"); s.InUse || s.Reason != v1alpha1.ReasonInvalidKubeconfig {
				t.Errorf("while it reads: %+v", s)
			}
			r.entries["other"] = &entry{}
			if reason, _ := r.claimCluster("other", "uid-of-west"); reason != v1alpha1.ReasonDuplicate {
				t.Errorf("the cluster that is being read can be claimed by another id: %q", reason)
			}
			r.promote("west", next)
			if s, _ := r.State("west"); !s.InUse || s.Stale || s.Reason != v1alpha1.ReasonInvalidKubeconfig || !slices.Equal(podsOf(r), []string{"p"}) {
				t.Errorf("when all was read: %+v, in use are %v", s, podsOf(r))
			}
		})
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
	r := testRemotes()
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
	r := testRemotes()
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
