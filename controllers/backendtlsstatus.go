// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxAncestors is how many entries the API takes; a status with more would be refused as a whole.
const maxAncestors = 16

// ancestorTypes are the condition types of a policy's ancestor that we own.
var ancestorTypes = []string{string(gatewayv1.PolicyConditionAccepted), string(gatewayv1.BackendTLSPolicyConditionResolvedRefs)}

// newBackendTLSStatus writes what became of BackendTLSPolicies at each of our Gateways that reach what they are for. Until ready is closed nothing is
// known of them, so nothing is written: what an earlier process wrote stays.
func newBackendTLSStatus(c client.Client, p findings, ready <-chan struct{}) *statusWriter {
	return &statusWriter{
		name: "backendtlspolicy-status", client: c, ready: ready, empty: func() client.Object { return &gatewayv1.BackendTLSPolicy{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			policy := o.(*gatewayv1.BackendTLSPolicy)
			policy.Status.Ancestors = ancestorStatuses(policy.Status.Ancestors, policy.Generation, p.Findings(world.KindBackendTLSPolicy, policy.Namespace, policy.Name))
			return 0
		},
	}
}

// ancestorStatuses gives the statuses of a policy's ancestors: those of other controllers as they are, and ours for those about which something was found, in
// the order of the findings as far as there is room.
func ancestorStatuses(before []gatewayv1.PolicyAncestorStatus, generation int64, found []translate.Finding) []gatewayv1.PolicyAncestorStatus {
	ours := func(s gatewayv1.PolicyAncestorStatus) bool { return s.ControllerName == translate.ControllerName }
	var own []gatewayv1.PolicyAncestorStatus
	for len(found) > 0 {
		parent := found[0].Parent
		n := slices.IndexFunc(found, func(f translate.Finding) bool { return f.Parent != parent })
		if n < 0 {
			n = len(found)
		}
		entry := gatewayv1.PolicyAncestorStatus{AncestorRef: ancestorRef(parent), ControllerName: translate.ControllerName, Conditions: []metav1.Condition{}}
		same := func(s gatewayv1.PolicyAncestorStatus) bool {
			return ours(s) && s.AncestorRef.Namespace != nil && *s.AncestorRef.Namespace == *entry.AncestorRef.Namespace && s.AncestorRef.Name == entry.AncestorRef.Name
		}
		if at := slices.IndexFunc(before, same); at >= 0 {
			entry.Conditions = before[at].Conditions
		}
		applyFindings(&entry.Conditions, found[:n], generation, ancestorTypes...)
		own, found = append(own, entry), found[n:]
	}
	foreign := 0
	for _, s := range before {
		if !ours(s) {
			foreign++
		}
	}
	own = own[:min(len(own), max(maxAncestors-foreign, 0))]
	// Ours come where ours were: two controllers that each put their own at the end would write for ever.
	after := make([]gatewayv1.PolicyAncestorStatus, 0, foreign+len(own))
	for _, s := range before {
		switch {
		case !ours(s):
			after = append(after, s)
		case len(own) > 0:
			after, own = append(after, own[0]), own[1:]
		}
	}
	return append(after, own...)
}

// ancestorRef names a Gateway with all fields.
func ancestorRef(p world.RouteParent) gatewayv1.ParentReference {
	group, kind, namespace := gatewayv1.Group(p.Group), gatewayv1.Kind(p.Kind), gatewayv1.Namespace(p.Namespace)
	return gatewayv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gatewayv1.ObjectName(p.Name)}
}
