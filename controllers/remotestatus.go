// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"math"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// contactEvery is how often lastContact is written while nothing else changes.
const contactEvery = time.Minute

// countsEvery is how often counts and the last change are written while nothing else changes: a busy cluster's change with every pod,
// and each write is news to everybody who watches RemoteClusters.
const countsEvery = 5 * time.Second

// countsDelay is how long counts are gathered before a status is looked at because of them.
const countsDelay = time.Second

// What another cluster says changes its status: how many objects are refused, whether it answers. It can do so a thousand times a second, and what we write goes to our own API server.
const (
	// statusRate and statusBurst are how often the status of one RemoteCluster is written, a second and at once: what happens to an honest cluster are a few changes now and then.
	statusRate, statusBurst = 1, 20
	// statusWait is how soon it is looked at again else.
	statusWait = time.Second
)

// remoteFacts is all that the status of a RemoteCluster is made of.
type remoteFacts struct {
	refused  *refusal         // by the plan
	state    *ConnectionState // nil before the first attempt
	count    translate.RemoteCount
	findings []translate.Finding
	rootless string // the cluster's trust domain, if no roots are known for it
	short    vipShort
}

// remoteStatus is pure: what an object's status shall be, given the one before.
func remoteStatus(before v1alpha1.RemoteClusterStatus, generation int64, id string, f remoteFacts) v1alpha1.RemoteClusterStatus {
	after := *before.DeepCopy()
	after.ObservedGeneration, after.ClusterID = generation, id
	after.Services, after.Endpoints = clampCount(f.count.Services), clampCount(f.count.Endpoints)
	connected, synced, ready := remoteConditions(f)
	for _, c := range []metav1.Condition{connected, synced, ready} {
		setCondition(&after.Conditions, c, generation)
	}
	applyFindings(&after.Conditions, f.findings, generation, v1alpha1.RemoteClusterWithinLimits)
	if f.state == nil {
		return after
	}
	after.Network = f.count.Network
	if after.Network == "" {
		after.Network = f.state.Network
	}
	setCondition(&after.Conditions, claimsCondition(f), generation)
	after.APIServerVersion = f.state.Health.version
	if f.state.InUse && f.state.Health.uid != "" {
		after.ClusterUID = string(f.state.Health.uid)
	}
	after.LastChange = at(f.state.LastChange)
	after.CredentialExpiry = at(f.state.Expiry)
	// A healthy cluster is contacted every few seconds: writing that each time would be noise.
	contact := at(f.state.Health.lastContact)
	if contact != nil && (before.LastContact == nil || contact.Sub(before.LastContact.Time) >= contactEvery || !f.state.Health.reachable) {
		after.LastContact = contact
	}
	return after
}

// unhurried puts the counts off, if they are all that differs and were written a moment ago. It gives when to look again; zero if after
// is to be written.
func unhurried(before, after v1alpha1.RemoteClusterStatus, now time.Time) time.Duration {
	if before.LastChange == nil {
		return 0
	}
	wait := countsEvery - now.Sub(before.LastChange.Time)
	if wait <= 0 || wait > countsEvery { // the other clock is ahead
		return 0
	}
	after.Services, after.Endpoints, after.LastChange = before.Services, before.Endpoints, before.LastChange
	if !equality.Semantic.DeepEqual(before, after) {
		return 0
	}
	return wait
}

func remoteConditions(f remoteFacts) (connected, synced, ready metav1.Condition) {
	connected = condition(v1alpha1.RemoteClusterConnected, false, "", "")
	synced = condition(v1alpha1.RemoteClusterSynced, false, "", "")
	ready = condition(v1alpha1.RemoteClusterReady, false, "", "")
	all := func(reason, message string) (a, b, c metav1.Condition) {
		for _, x := range []*metav1.Condition{&connected, &synced, &ready} {
			x.Reason, x.Message = reason, message
		}
		return connected, synced, ready
	}
	switch {
	case f.refused != nil:
		return all(f.refused.reason, f.refused.message)
	case f.state == nil:
		return all(v1alpha1.ReasonSyncing, "not tried yet")
	}
	s, h := f.state, f.state.Health
	if !s.InUse && s.Reason != "" { // nothing but a kubeconfig that cannot be used
		return all(s.Reason, s.Message)
	}
	if h.phase == phaseRefused {
		return all(h.reason, h.message)
	}

	switch {
	case h.reachable && h.concern != "":
		connected = condition(v1alpha1.RemoteClusterConnected, true, h.concern, h.concernText)
	case h.reachable:
		connected = condition(v1alpha1.RemoteClusterConnected, true, v1alpha1.ReasonConnected, "the API server answers")
	case h.reason == "":
		connected.Reason, connected.Message = v1alpha1.ReasonSyncing, "the API server has not answered yet"
	default:
		connected.Reason, connected.Message = h.reason, h.message
	}
	switch {
	case s.Stale:
		synced.Reason, synced.Message = v1alpha1.ReasonStale, "the last known state passed the staleness limit and is not used"
	case h.phase == phaseSynced:
		synced = condition(v1alpha1.RemoteClusterSynced, true, v1alpha1.ReasonSynced, "everything was read")
	case h.reason != "":
		synced.Reason, synced.Message = h.reason, h.message
	default:
		synced.Reason, synced.Message = v1alpha1.ReasonSyncing, "the first read is under way"
	}
	switch {
	case s.Reason != "":
		ready.Reason, ready.Message = s.Reason, s.Message+"; the previous kubeconfig stays in use"
	case synced.Status != metav1.ConditionTrue:
		ready.Reason, ready.Message = synced.Reason, synced.Message
	case connected.Status != metav1.ConditionTrue:
		ready.Reason, ready.Message = connected.Reason, fmt.Sprintf("%s; the last known state, of %s, stays in use", connected.Message, h.lastContact.UTC().Format(time.RFC3339))
	case h.reason != "": // a watch is refused
		ready.Reason, ready.Message = h.reason, h.message
	case f.count.Network == "" && s.Network == "":
		ready.Reason = v1alpha1.ReasonNoNetwork
		ready.Message = "label " + networkLabel + " is not set on the remote system namespace; set it there, or spec.network here"
	case f.rootless != "":
		ready.Reason = v1alpha1.ReasonNoRoots
		ready.Message = fmt.Sprintf("spec.trustDomain: no ConfigMap of the system namespace labelled %s=%s holds roots, so nobody in the cluster is believed", trustDomainLabel, f.rootless)
	default:
		ready = condition(v1alpha1.RemoteClusterReady, true, v1alpha1.ReasonReady, "the cluster's global services are in use")
	}
	return connected, synced, ready
}

// claimsCondition says what of the cluster's claims is refused, whatever its import limits.
func claimsCondition(f remoteFacts) metav1.Condition {
	var parts []string
	if r := f.state.Refused; r.count > 0 {
		atLeast := ""
		if r.more {
			atLeast = "at least "
		}
		parts = append(parts, fmt.Sprintf("%s%d objects are malformed, such as %s", atLeast, r.count, r.example))
	}
	if f.state.Health.flooding {
		parts = append(parts, fmt.Sprintf("the cluster sends more than %d MiB and then %d MiB a second: the rest waits there, so what is known may be old", intakeBurst>>20, intakeRate>>20))
	}
	if f.state.PutOff {
		parts = append(parts, "the cluster changes again and again what concerns all of it, such as its network or what it shares: that waits, so what is known may be old")
	}
	if claims := f.count.Refused(); claims != "" {
		parts = append(parts, claims)
	}
	if n := f.short.unserved; n > 0 {
		parts = append(parts, fmt.Sprintf("%d services that exist in other clusters only have no address here: a cluster has at most %d, with those of services that went away within %s, and half of what the others left", n, vipMost, vipRest))
	}
	if n := f.short.waiting; n > 0 {
		parts = append(parts, fmt.Sprintf("%d services that exist in other clusters only wait for an address here: the cluster's services come and go so fast that more than %d ConfigMaps a second would be written", n, vipWrites))
	}
	if len(parts) == 0 {
		return condition(v1alpha1.RemoteClusterClaimsAccepted, true, v1alpha1.ReasonClaimsAccepted, "nothing that the cluster claims is refused")
	}
	return condition(v1alpha1.RemoteClusterClaimsAccepted, false, v1alpha1.ReasonClaimsRefused, strings.Join(parts, "; ")+"; the rest is in use")
}

func condition(kind string, status bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if status {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// at gives a time as the API keeps it, in seconds; nil for the zero time.
func at(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	m := metav1.NewTime(t.Truncate(time.Second))
	return &m
}

func clampCount(n int) int32 { return int32(min(n, math.MaxInt32)) }
