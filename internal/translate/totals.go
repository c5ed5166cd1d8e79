// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// totals are sums over all answers.
type totals struct {
	scopes  map[world.Key]*scopeTotal
	remotes map[world.Cluster]*remoteTotal
}

type scopeTotal struct {
	global, local int
	conflicts     map[serviceName]*Conflict
}

type remoteTotal struct{ services, endpoints int }

func newTotals() totals {
	return totals{scopes: map[world.Key]*scopeTotal{}, remotes: map[world.Cluster]*remoteTotal{}}
}

// count adds an answer (by 1) or takes it away (by -1).
func (t totals) count(n serviceName, a *answer, by int) {
	if a == nil {
		return
	}
	if a.decided.verdict != unmatched {
		s := t.scopes[a.decided.by]
		if s == nil {
			s = &scopeTotal{conflicts: map[serviceName]*Conflict{}}
			t.scopes[a.decided.by] = s
		}
		if a.decided.verdict == global {
			s.global += by
		} else {
			s.local += by
		}
		if a.conflict != nil {
			if by > 0 {
				s.conflicts[n] = a.conflict
			} else {
				delete(s.conflicts, n)
			}
		}
		if s.global == 0 && s.local == 0 {
			delete(t.scopes, a.decided.by)
		}
	}
	for c, healthy := range a.taken {
		r := t.remotes[c]
		if r == nil {
			r = &remoteTotal{}
			t.remotes[c] = r
		}
		r.services += by
		r.endpoints += by * healthy
		if r.services == 0 {
			delete(t.remotes, c)
		}
	}
}

// scopeStatus is what a local ServiceScope does, and its conditions.
func (x *index) scopeStatus(k world.Key, t totals) (ScopeStatus, []Finding) {
	i := slices.IndexFunc(x.rules[k.Cluster], func(r rules) bool { return r.scope.Key == k })
	r := x.rules[k.Cluster][i]
	generation := r.scope.Generation
	var status ScopeStatus
	if s := t.scopes[k]; s != nil {
		status.Global, status.Local, status.ConflictCount = s.global, s.local, len(s.conflicts)
		for _, n := range slices.SortedFunc(maps.Keys(s.conflicts), compareNames) {
			if len(status.Conflicts) == MaxConflicts {
				break
			}
			status.Conflicts = append(status.Conflicts, *s.conflicts[n])
		}
	}
	findings := []Finding{{Type: v1alpha1.ServiceScopeAccepted, Status: isTrue, Reason: v1alpha1.ReasonAccepted,
		Message: fmt.Sprintf("%d entries are in force", len(r.entries)), Generation: generation}}
	if len(r.problems) > 0 {
		messages := make([]string, 0, len(r.problems))
		for _, p := range r.problems {
			messages = append(messages, p.Message)
		}
		findings[0] = r.problems[0]
		findings[0].Message = shorten(strings.Join(messages, "; "))
	}
	if status.ConflictCount > 0 {
		findings = append(findings, Finding{Type: v1alpha1.ServiceScopeConflicted, Status: isTrue, Reason: ReasonDefinitionsDiffer,
			Message:    fmt.Sprintf("%d services are defined differently in other clusters; see status.conflicts", status.ConflictCount),
			Generation: generation})
	}
	return status, findings
}

// remoteCount is what is taken from a remote cluster; false if nothing is known of it. The findings belong on limits, if any.
func (x *index) remoteCount(c world.Cluster, t totals) (RemoteCount, []Finding, bool) {
	limits := x.limits[c]
	if c == x.config.LocalCluster || limits == nil && len(x.namesOf[c]) == 0 {
		return RemoteCount{}, nil, false
	}
	var out RemoteCount
	network, known := x.network(c)
	out.Network = network
	if r := t.remotes[c]; r != nil {
		out.Services, out.Endpoints = r.services, r.endpoints
	}
	if i := x.imports[c]; i != nil {
		out.LeftOut, out.Scattered = len(i.out)+len(i.barred), len(i.scattered)
	}
	out.Strangers = x.identities(c)
	doors := x.claims.doors[c]
	out.RefusedPods, out.RefusedDoors, out.TakenDoors, out.DoorHolder = len(x.claims.pods[c]), doors.foreign, doors.taken, doors.holder
	out.Astray = len(x.claims.astray[c])
	out.UnpermittedDoors, out.CrowdedDoors = doors.unpermitted, doors.crowded
	out.RefusedScopes = len(x.rules[c]) - len(x.inForce[c])
	if claims := x.networks[c]; claims != nil && claims.refused > 0 {
		out.RefusedNetworks, out.RefusedNetwork = claims.refused, claims.names[0]
	}
	if limits == nil {
		return out, nil, true
	}
	within := Finding{Type: v1alpha1.RemoteClusterWithinLimits, Status: isTrue, Reason: v1alpha1.ReasonWithinLimits,
		Message: "import limits leave no service out", Generation: limits.Generation}
	if out.LeftOut+out.Strangers > 0 {
		within.Status, within.Reason, within.Message = isFalse, v1alpha1.ReasonLimitExceeded, "spec.import: "
	}
	if out.LeftOut > 0 {
		barred := len(x.imports[c].barred)
		within.Message += fmt.Sprintf("%d global services are left out: %d of other namespaces, %d beyond %d services or %d endpoints",
			out.LeftOut, barred, out.LeftOut-barred, limits.MaxServices, limits.MaxEndpoints)
	}
	if out.Strangers > 0 {
		if out.LeftOut > 0 {
			within.Message += "; "
		}
		within.Message += fmt.Sprintf("%d pods of global services are left out: identities does not allow theirs", out.Strangers)
	}
	findings := []Finding{within}
	if x.unprovable.has(c) {
		findings = append(findings, Finding{Type: v1alpha1.RemoteClusterReady, Status: isFalse, Reason: v1alpha1.ReasonInvalidTrustDomain,
			Message:    shorten(fmt.Sprintf("spec.trustDomain: %q is no trust domain, which has lower-case letters, digits, '-', '.' and '_': nothing of the cluster can be used", limits.TrustDomain)),
			Generation: limits.Generation})
	} else if !known && len(x.namesOf[c]) > 0 {
		findings = append(findings, Finding{Type: v1alpha1.RemoteClusterReady, Status: isFalse, Reason: v1alpha1.ReasonNoNetwork,
			Message: fmt.Sprintf("the cluster's namespace %s has no label %s and spec.network is not set: nothing of the cluster can be used",
				x.config.SystemNamespace, world.LabelNetwork), Generation: limits.Generation})
	}
	return out, findings, true
}
