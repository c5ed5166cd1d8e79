// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestWhoSpeaksForAClusterIsNotWhoAnswersFirst has two ids claim one cluster in either order.
func TestWhoSpeaksForAClusterIsNotWhoAnswersFirst(t *testing.T) {
	const uid = "uid-of-west"
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	for _, tc := range []struct {
		name       string
		west, evil entry
	}{
		{"known beats older", entry{linked: at(2), known: uid}, entry{linked: at(1)}},
		{"known beats one that led elsewhere", entry{linked: at(2), known: uid}, entry{linked: at(1), known: "uid-of-evil"}},
		{"new beats one that led elsewhere", entry{linked: at(2)}, entry{linked: at(1), known: "uid-of-evil"}},
		{"the older of two new ones", entry{linked: at(1)}, entry{linked: at(2)}},
		{"linked beats being linked", entry{linked: at(1)}, entry{}},
	} {
		for _, order := range [][]world.Cluster{{"west", "evil"}, {"evil", "west"}} {
			r := testRemotes()
			west, evil := tc.west, tc.evil
			r.entries["west"], r.entries["evil"] = &west, &evil
			for _, id := range order {
				r.claimCluster(id, uid)
			}
			for range 2 { // as they are asked again
				if reason, message := r.claimCluster("west", uid); reason != "" {
					t.Errorf("%s, %v: west is refused: %s", tc.name, order, message)
				}
				if reason, message := r.claimCluster("evil", uid); reason != v1alpha1.ReasonDuplicate || !strings.Contains(message, `"west"`) {
					t.Errorf("%s, %v: of the other is said %q %s", tc.name, order, reason, message)
				}
			}
			var counted dto.Metric
			if err := r.metrics.refused.WithLabelValues("evil", refusedIdentity).Write(&counted); err != nil || counted.GetCounter().GetValue() != 1 {
				t.Errorf("%s, %v: one claim was counted %v times (%v)", tc.name, order, counted.GetCounter().GetValue(), err)
			}
		}
	}
}

// TestAClusterThatCannotBeReachedIsNotForOthers: after a restart, too, nobody is another cluster because that one does not answer.
func TestAClusterThatCannotBeReachedIsNotForOthers(t *testing.T) {
	r := testRemotes()
	wishes := map[world.Cluster]Wish{
		"west": {Kubeconfig: []byte("nonsense"), KnownUID: "uid-of-west", Linked: time.Unix(2, 0)},
		"evil": {Kubeconfig: []byte("nonsense"), KnownUID: "uid-of-evil", Linked: time.Unix(1, 0)},
	}
	r.Set(wishes)
	for uid, want := range map[types.UID]string{"uid-of-west": v1alpha1.ReasonDuplicate, "uid-of-evil": "", "uid-of-nobody": ""} {
		if got, _ := r.claimCluster("evil", uid); got != want {
			t.Errorf("evil as %s: %q, want %q", uid, got, want)
		}
	}
	delete(wishes, "west")
	r.Set(wishes)
	if reason, message := r.claimCluster("evil", "uid-of-west"); reason != "" {
		t.Errorf("nobody wishes for it any more: %s", message)
	}
}

// TestKubeconfigsThatAreExchanged: two ids that lead to each other's cluster by now have them, whichever is older, also after a restart.
func TestKubeconfigsThatAreExchanged(t *testing.T) {
	for _, older := range []int64{0, 2} {
		r := testRemotes()
		west, south := entry{linked: time.Unix(1, 0), known: "uid-1"}, entry{linked: time.Unix(older, 0), known: "uid-2"}
		r.entries["west"], r.entries["south"] = &west, &south
		r.holdKnown("west", &west)
		r.holdKnown("south", &south)
		if reason, message := r.claimCluster("west", "uid-2"); reason != v1alpha1.ReasonDuplicate || !strings.Contains(message, "delete") {
			t.Errorf("before it is known that the other one leads elsewhere: %q %s", reason, message)
		}
		if reason, message := r.claimCluster("south", "uid-1"); reason != "" {
			t.Errorf("west is known to lead elsewhere: %s", message)
		}
		for range 2 { // as they are asked again
			for id, uid := range map[world.Cluster]types.UID{"west": "uid-2", "south": "uid-1"} {
				if reason, message := r.claimCluster(id, uid); reason != "" {
					t.Errorf("%s as %s: %s", id, uid, message)
				}
			}
		}
	}
}

// TestNobodySpeaksForEveryCluster: a remote API server that gives another UID whenever it is asked holds what it leads to, and no more than that.
func TestNobodySpeaksForEveryCluster(t *testing.T) {
	r := testRemotes()
	live := &connection{feed: NewFeed(r.store, "west", remoteKinds(), "isthmus-system"), cancel: func() {}}
	r.entries["west"] = &entry{live: live, known: "uid-of-west"}
	r.owners["uid-of-west"] = "west"
	for i := range 1000 {
		live.state.uid = types.UID(fmt.Sprint("uid-", i))
		if reason, message := r.claimCluster("west", live.state.uid); reason != "" {
			t.Fatal(message)
		}
	}
	if len(r.owners) != 2 || r.owners["uid-999"] != "west" || r.owners["uid-of-west"] != "west" {
		t.Errorf("it speaks for %d clusters", len(r.owners))
	}

	// A kubeconfig that is being connected leads elsewhere: what the connection in use says again gives up neither of the two.
	r.entries["west"].next = &connection{}
	for _, uid := range []types.UID{"uid-of-next", "uid-999"} {
		if reason, message := r.claimCluster("west", uid); reason != "" {
			t.Fatal(message)
		}
	}
	for _, uid := range []types.UID{"uid-of-next", "uid-999"} {
		if r.owners[uid] != "west" {
			t.Errorf("it does not speak for %s any more", uid)
		}
	}
}

// TestTheBudgetIsTheClusters: whoever has us connect anew, or is linked anew, has no more read for it.
func TestTheBudgetIsTheClusters(t *testing.T) {
	r := testRemotes()
	wish := func(token string) {
		r.Set(map[world.Cluster]Wish{"west": {Kubeconfig: []byte(strings.NewReplacer("{%s}", "{server: 'https://127.0.0.1:1'}").Replace(strings.Replace(kubeconfigForm, "user: {%s}", "user: {token: "+token+"}", 1)))}})
	}
	wish("a")
	first := r.entries["west"].next
	if !first.budget.AllowN(time.Now(), intakeBurst) {
		t.Fatal("a new one is not whole")
	}
	left := func(what string) {
		t.Helper()
		if c := r.entries["west"].next; c == first || c.budget.Tokens() > intakeBurst/10 {
			t.Errorf("%s: %v of %d bytes are left", what, c.budget.Tokens(), intakeBurst)
		}
	}
	r.revoke("west", first)
	left("revoked")
	wish("b")
	left("another kubeconfig")
	r.Set(nil)
	r.checkStaleness()
	wish("a")
	left("linked anew")
	r.Set(nil)
	r.budgets["west"] = newBudget() // as it is after a while
	r.checkStaleness()
	if len(r.budgets) != 0 {
		t.Error("a whole budget is kept for nobody")
	}
}
