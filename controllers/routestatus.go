// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// untranslatedWait is how soon a route is looked at again while the world is still being read.
const untranslatedWait = 500 * time.Millisecond

// parentTypes are the condition types of a route's parent that we own.
var parentTypes = []string{string(gatewayv1.RouteConditionAccepted), string(gatewayv1.RouteConditionResolvedRefs), string(gatewayv1.RouteConditionPartiallyInvalid)}

// newHTTPRouteStatus writes what became of a route at each of its parents that are ours. Until ready is closed nothing is known of routes, so
// nothing is written: what an earlier process wrote stays.
func newHTTPRouteStatus(c client.Client, p findings, ready <-chan struct{}) *statusWriter {
	return &statusWriter{
		name: "httproute-status", client: c, empty: func() client.Object { return &gatewayv1.HTTPRoute{} },
		fill: func(o client.Object) time.Duration {
			select {
			case <-ready:
			default:
				return untranslatedWait
			}
			r := o.(*gatewayv1.HTTPRoute)
			found := p.Findings(world.KindHTTPRoute, r.Namespace, r.Name)
			r.Status.Parents = parentStatuses(r.Status.Parents, r.Spec.ParentRefs, r.Namespace, r.Generation, found)
			return 0
		},
	}
}

// parentStatuses gives the statuses of a route's parents: those of other controllers as they are, and ours for the parents about which
// something was found, in the order of the spec.
func parentStatuses(before []gatewayv1.RouteParentStatus, refs []gatewayv1.ParentReference, namespace string, generation int64, found []translate.Finding) []gatewayv1.RouteParentStatus {
	ours := func(s gatewayv1.RouteParentStatus) bool { return s.ControllerName == translate.ControllerName }
	after := slices.DeleteFunc(slices.Clone(before), ours)
	for i, ref := range refs {
		if slices.ContainsFunc(refs[:i], func(earlier gatewayv1.ParentReference) bool { return equality.Semantic.DeepEqual(earlier, ref) }) {
			continue
		}
		parent := world.ReduceParent(namespace, ref)
		var own []translate.Finding
		for _, f := range found {
			if f.Parent == parent {
				own = append(own, f)
			}
		}
		if len(own) == 0 {
			continue // not ours, or not looked at yet
		}
		entry := gatewayv1.RouteParentStatus{ParentRef: ref, ControllerName: translate.ControllerName, Conditions: []metav1.Condition{}}
		same := func(s gatewayv1.RouteParentStatus) bool {
			return ours(s) && equality.Semantic.DeepEqual(s.ParentRef, ref)
		}
		if at := slices.IndexFunc(before, same); at >= 0 {
			entry.Conditions = before[at].Conditions
		}
		applyFindings(&entry.Conditions, own, generation, parentTypes...)
		after = append(after, entry)
	}
	return after
}
