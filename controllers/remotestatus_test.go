// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

func TestRemoteStatus(t *testing.T) {
	seen := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	synced := health{phase: phaseSynced, reachable: true, version: "v1.36.3", lastContact: seen}
	lost := health{phase: phaseSynced, reason: v1alpha1.ReasonUnreachable, message: "does not answer", lastContact: seen, lostAt: seen}
	slow, failing := synced, synced
	slow.concern, slow.concernText = v1alpha1.ReasonSlow, "took long"
	failing.reason, failing.message = v1alpha1.ReasonWatchFailing, "cut"
	network := translate.RemoteCount{Network: "west", Services: 3, Endpoints: 7}
	for _, tc := range []struct {
		name                     string
		facts                    remoteFacts
		connected, synced, ready string // "Status/Reason"
		says                     string // in Ready's message
	}{
		{"not tried", remoteFacts{}, "False/Syncing", "False/Syncing", "False/Syncing", ""},
		{"not followed", remoteFacts{refused: &refusal{v1alpha1.ReasonSelf, "this very cluster"}}, "False/Self", "False/Self", "False/Self", "this very cluster"},
		{"bad from the start", remoteFacts{state: &ConnectionState{Reason: v1alpha1.ReasonForbiddenKubeconfig, Message: "exec"}}, "False/ForbiddenKubeconfig", "False/ForbiddenKubeconfig", "False/ForbiddenKubeconfig", "exec"},
		{"connecting", remoteFacts{state: &ConnectionState{}}, "False/Syncing", "False/Syncing", "False/Syncing", ""},
		{"never reached", remoteFacts{state: &ConnectionState{Health: health{reason: v1alpha1.ReasonUnreachable, message: "refused"}}}, "False/Unreachable", "False/Unreachable", "False/Unreachable", "refused"},
		{"wrong cluster", remoteFacts{state: &ConnectionState{Health: health{phase: phaseRefused, reachable: true, reason: v1alpha1.ReasonDuplicate, message: "read as north"}}}, "False/Duplicate", "False/Duplicate", "False/Duplicate", "north"},
		{"reading", remoteFacts{state: &ConnectionState{Health: health{phase: phaseSyncing, reachable: true}}}, "True/Connected", "False/Syncing", "False/Syncing", ""},
		{"may not read", remoteFacts{state: &ConnectionState{Health: health{phase: phaseSyncing, reachable: true, reason: v1alpha1.ReasonForbidden, message: "pods"}}}, "True/Connected", "False/Forbidden", "False/Forbidden", "pods"},
		{"good", remoteFacts{state: &ConnectionState{InUse: true, Health: synced}, count: network}, "True/Connected", "True/Synced", "True/Ready", ""},
		{"no network", remoteFacts{state: &ConnectionState{InUse: true, Health: synced}}, "True/Connected", "True/Synced", "False/NoNetwork", networkLabel},
		{"lost", remoteFacts{state: &ConnectionState{InUse: true, Health: lost}, count: network}, "False/Unreachable", "True/Synced", "False/Unreachable", "2026-11-22T12:00:00Z, stays in use"},
		{"stale", remoteFacts{state: &ConnectionState{Stale: true, Health: lost}, count: network}, "False/Unreachable", "False/Stale", "False/Stale", "staleness limit"},
		{"replaced by a bad one", remoteFacts{state: &ConnectionState{InUse: true, Health: synced, Reason: v1alpha1.ReasonInvalidKubeconfig, Message: "YAML"}, count: network}, "True/Connected", "True/Synced", "False/InvalidKubeconfig", "previous kubeconfig stays in use"},
		{"no roots", remoteFacts{state: &ConnectionState{InUse: true, Health: synced}, count: network, rootless: "far.example"}, "True/Connected", "True/Synced", "False/NoRoots", "isthmus.dev/trust-domain=far.example"},
		{"slow", remoteFacts{state: &ConnectionState{InUse: true, Health: slow}, count: network}, "True/Slow", "True/Synced", "True/Ready", ""},
		{"watches fail", remoteFacts{state: &ConnectionState{InUse: true, Health: failing}, count: network}, "True/Connected", "True/Synced", "False/WatchFailing", "cut"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := remoteStatus(v1alpha1.RemoteClusterStatus{}, 4, "west", tc.facts)
			for kind, want := range map[string]string{"Connected": tc.connected, "Synced": tc.synced, "Ready": tc.ready} {
				if got := verdict(s.Conditions, 4, kind); got != want {
					t.Errorf("%s is %s, want %s", kind, got, want)
				}
			}
			if m := message(s.Conditions, "Ready"); !strings.Contains(m, tc.says) {
				t.Errorf("Ready says %q, which lacks %q", m, tc.says)
			}
			if s.ClusterID != "west" || s.ObservedGeneration != 4 || int(s.Services) != tc.facts.count.Services {
				t.Errorf("got %+v", s)
			}
			if again := remoteStatus(s, 4, "west", tc.facts); again.LastContact != nil && !again.LastContact.Equal(s.LastContact) {
				t.Errorf("lastContact moved from %v to %v without news", s.LastContact, again.LastContact)
			}
		})
	}
}

func TestContactIsWrittenSeldomWhileAllIsWell(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration, before v1alpha1.RemoteClusterStatus) v1alpha1.RemoteClusterStatus {
		return remoteStatus(before, 1, "west", remoteFacts{state: &ConnectionState{InUse: true, Health: health{phase: phaseSynced, reachable: true, lastContact: begin.Add(d)}}})
	}
	first := at(0, v1alpha1.RemoteClusterStatus{})
	if soon := at(contactEvery-time.Second, first); !soon.LastContact.Equal(first.LastContact) {
		t.Errorf("moved to %v", soon.LastContact)
	}
	if later := at(contactEvery, first); !later.LastContact.Time.Equal(begin.Add(contactEvery)) {
		t.Errorf("stayed at %v", later.LastContact)
	}
}

func TestCountsAreUnhurried(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	now := begin.Add(time.Second)
	facts := func(endpoints int, change time.Time, reachable bool) remoteFacts {
		return remoteFacts{
			state: &ConnectionState{InUse: true, LastChange: change, Health: health{phase: phaseSynced, reachable: reachable, reason: v1alpha1.ReasonUnreachable, lastContact: begin}},
			count: translate.RemoteCount{Network: "west", Services: 3, Endpoints: endpoints},
		}
	}
	first := remoteStatus(v1alpha1.RemoteClusterStatus{}, 1, "west", facts(7, begin, true))
	for _, tc := range []struct {
		name  string
		facts remoteFacts
		after time.Duration // since the last write
		want  time.Duration
	}{
		{"a pod more, a moment later", facts(8, now, true), time.Second, countsEvery - time.Second},
		{"a pod more, later", facts(8, now, true), countsEvery, 0},
		{"unreachable, a moment later", facts(8, now, false), time.Second, 0},
		{"our clock is behind", facts(8, now, true), -time.Second, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := remoteStatus(first, 1, "west", tc.facts)
			if got := unhurried(first, next, begin.Add(tc.after)); got != tc.want {
				t.Errorf("put off by %v, want %v", got, tc.want)
			}
		})
	}
	if got := unhurried(v1alpha1.RemoteClusterStatus{}, first, begin); got != 0 {
		t.Errorf("the first status is put off by %v", got)
	}
}

func TestRefusedClaimsAreInStatus(t *testing.T) {
	for _, tc := range []struct {
		name  string
		facts remoteFacts
		want  string
	}{
		{"none", remoteFacts{state: &ConnectionState{}}, "True/ClaimsAccepted: nothing that"},
		{"what takes too long", remoteFacts{state: &ConnectionState{PutOff: true}}, "False/ClaimsRefused: the cluster changes again and again"},
		{"malformed", remoteFacts{state: &ConnectionState{Refused: refusedFacts{count: 2, example: "Pod a/b: spec.nodeName: x"}}}, "False/ClaimsRefused: 2 objects are malformed, such as Pod a/b: spec.nodeName: x; the rest is in use"},
		{"more than are kept", remoteFacts{state: &ConnectionState{Refused: refusedFacts{count: 1000, more: true, example: "x"}}}, "False/ClaimsRefused: at least 1000 objects"},
		{"addresses", remoteFacts{state: &ConnectionState{}, count: translate.RemoteCount{RefusedPods: 3}}, "False/ClaimsRefused: 3 pods claim addresses"},
		{"addresses that are not allowed", remoteFacts{state: &ConnectionState{}, count: translate.RemoteCount{Astray: 2}}, "False/ClaimsRefused: 2 pods on a network of this cluster claim addresses that spec.import.podCIDRs does not allow"},
		{"gateways", remoteFacts{state: &ConnectionState{}, count: translate.RemoteCount{RefusedDoors: 1}}, "False/ClaimsRefused: 1 addresses of Gateways"},
		{"gateways of tenants", remoteFacts{state: &ConnectionState{}, count: translate.RemoteCount{UnpermittedDoors: 3}}, `False/ClaimsRefused: 3 addresses are of east-west Gateways in namespaces of the cluster that do not have the label isthmus.dev/eastwest-gateways: "true"`},
		{"too many gateways", remoteFacts{state: &ConnectionState{}, count: translate.RemoteCount{CrowdedDoors: 2}}, "False/ClaimsRefused: 2 addresses of Gateways come after the 64 that are used of one network"},
		{"gateways of others", remoteFacts{state: &ConnectionState{}, count: translate.RemoteCount{TakenDoors: 2, DoorHolder: "north"}}, "False/ClaimsRefused: 2 addresses and ports of Gateways are those of Gateways of clusters that were linked earlier, such as north"},
		{"too many identities", remoteFacts{state: &ConnectionState{}, count: translate.RemoteCount{Scattered: 2}}, "False/ClaimsRefused: 2 global services have pods of more than 256 service accounts"},
		{"a flood", remoteFacts{state: &ConnectionState{Health: health{flooding: true}}}, "False/ClaimsRefused: the cluster sends more than 512 MiB and then 4 MiB a second"},
	} {
		s := remoteStatus(v1alpha1.RemoteClusterStatus{}, 4, "west", tc.facts)
		got := verdict(s.Conditions, 4, v1alpha1.RemoteClusterClaimsAccepted) + ": " + message(s.Conditions, v1alpha1.RemoteClusterClaimsAccepted)
		if !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// saysOften are findings of which each differs from the one before.
type saysOften struct {
	findings
	said int
}

func (f *saysOften) Findings(world.Kind, string, string) []translate.Finding { return nil }

func (f *saysOften) Remote(world.Cluster) translate.RemoteCount {
	f.said++
	return translate.RemoteCount{RefusedPods: f.said}
}

// TestARestlessClusterIsWrittenSeldom: whatever a cluster has us say of it, it is not written at the rate at which that changes; and what was said last is written in the end.
func TestARestlessClusterIsWrittenSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := testRemotes()
		live := reads(r, "p")
		r.entries["west"] = &entry{live: live}
		says := &saysOften{}
		w := newRemoteClusterStatus(nil, says, r, &RemoteReconciler{}, func(string) bool { return true }, func(world.Cluster) vipShort { return vipShort{} })
		object := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "west"}}
		const lasts = 60 * time.Second
		writes := 0
		look := func() time.Duration {
			before := object.DeepCopy()
			again := w.fill(t.Context(), object)
			if !equality.Semantic.DeepEqual(before, object) {
				writes++
			}
			return again
		}
		for began := time.Now(); time.Since(began) < lasts; {
			look()
			time.Sleep(10 * time.Millisecond)
		}
		if most := statusBurst + int(lasts.Seconds())*statusRate + 1; writes > most || writes < statusBurst {
			t.Errorf("%d writes in %s, %d at most", writes, lasts, most)
		}
		for wait := look(); wait < contactEvery; wait = look() {
			time.Sleep(wait)
		}
		if got := message(object.Status.Conditions, v1alpha1.RemoteClusterClaimsAccepted); !strings.HasPrefix(got, fmt.Sprint(says.said, " pods claim")) {
			t.Errorf("after %d changes is said: %s", says.said, got)
		}
	})
}
