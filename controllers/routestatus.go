// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxParentStatuses is how many entries the API takes; a status with more would be refused as a whole.
const maxParentStatuses = 32

// parentTypes are the condition types of a route's parent that we own.
var parentTypes = []string{string(gatewayv1.RouteConditionAccepted), string(gatewayv1.RouteConditionResolvedRefs), string(gatewayv1.RouteConditionPartiallyInvalid), translate.ConditionEnforced}

// newHTTPRouteStatus writes what became of HTTPRoutes, see newRouteStatus.
func newHTTPRouteStatus(c client.Client, p findings, parents parentReader, ready <-chan struct{}) *statusWriter {
	return newRouteStatus(c, p, parents, ready, world.KindHTTPRoute, "httproute-status", func() client.Object { return &gatewayv1.HTTPRoute{} },
		func(o client.Object) ([]gatewayv1.ParentReference, *gatewayv1.RouteStatus) {
			r := o.(*gatewayv1.HTTPRoute)
			return r.Spec.ParentRefs, &r.Status.RouteStatus
		})
}

// newGRPCRouteStatus writes what became of GRPCRoutes, see newRouteStatus.
func newGRPCRouteStatus(c client.Client, p findings, parents parentReader, ready <-chan struct{}) *statusWriter {
	return newRouteStatus(c, p, parents, ready, world.KindGRPCRoute, "grpcroute-status", func() client.Object { return &gatewayv1.GRPCRoute{} },
		func(o client.Object) ([]gatewayv1.ParentReference, *gatewayv1.RouteStatus) {
			r := o.(*gatewayv1.GRPCRoute)
			return r.Spec.ParentRefs, &r.Status.RouteStatus
		})
}

// newTLSRouteStatus writes what became of TLSRoutes, see newRouteStatus.
func newTLSRouteStatus(c client.Client, p findings, parents parentReader, ready <-chan struct{}) *statusWriter {
	return newRouteStatus(c, p, parents, ready, world.KindTLSRoute, "tlsroute-status", func() client.Object { return &gatewayv1.TLSRoute{} },
		func(o client.Object) ([]gatewayv1.ParentReference, *gatewayv1.RouteStatus) {
			r := o.(*gatewayv1.TLSRoute)
			return r.Spec.ParentRefs, &r.Status.RouteStatus
		})
}

// newTCPRouteStatus writes what became of TCPRoutes, see newRouteStatus.
func newTCPRouteStatus(c client.Client, p findings, parents parentReader, ready <-chan struct{}) *statusWriter {
	return newRouteStatus(c, p, parents, ready, world.KindTCPRoute, "tcproute-status", func() client.Object { return &gatewayv1.TCPRoute{} },
		func(o client.Object) ([]gatewayv1.ParentReference, *gatewayv1.RouteStatus) {
			r := o.(*gatewayv1.TCPRoute)
			return r.Spec.ParentRefs, &r.Status.RouteStatus
		})
}

// newUDPRouteStatus writes what became of UDPRoutes, see newRouteStatus.
func newUDPRouteStatus(c client.Client, p findings, parents parentReader, ready <-chan struct{}) *statusWriter {
	return newRouteStatus(c, p, parents, ready, world.KindUDPRoute, "udproute-status", func() client.Object { return &gatewayv1.UDPRoute{} },
		func(o client.Object) ([]gatewayv1.ParentReference, *gatewayv1.RouteStatus) {
			r := o.(*gatewayv1.UDPRoute)
			return r.Spec.ParentRefs, &r.Status.RouteStatus
		})
}

// newRouteStatus writes what became of routes at each of their parents that are ours. Until ready is closed nothing is known of routes, so
// nothing is written: what an earlier process wrote stays.
func newRouteStatus(c client.Client, p findings, parents parentReader, ready <-chan struct{}, kind world.Kind, name string, empty func() client.Object, parts func(client.Object) ([]gatewayv1.ParentReference, *gatewayv1.RouteStatus)) *statusWriter {
	return &statusWriter{
		name: name, client: c, ready: ready, empty: empty,
		fill: func(ctx context.Context, o client.Object) time.Duration {
			refs, status := parts(o)
			again := time.Duration(0)
			unknown := func(ref gatewayv1.ParentReference) bool {
				gone, err := parents.gone(ctx, o.GetNamespace(), ref)
				if err != nil {
					ctrl.LoggerFrom(ctx).Error(err, "what is said of a route stays: it is not known whether its parent is there", "parent", string(ref.Name))
				}
				if !gone {
					again = parentWait
				}
				return !gone
			}
			status.Parents = parentStatuses(status.Parents, refs, o.GetNamespace(), o.GetGeneration(), p.Findings(kind, o.GetNamespace(), o.GetName()), unknown)
			return again
		},
	}
}

// parentStatuses gives the statuses of a route's parents: those of other controllers as they are, and ours for the parents about which
// something was found, in the order of the spec. What is said of one about which nothing was found stays while unknown says so: who led before us may have seen it already.
func parentStatuses(before []gatewayv1.RouteParentStatus, refs []gatewayv1.ParentReference, namespace string, generation int64, found []translate.Finding, unknown func(gatewayv1.ParentReference) bool) []gatewayv1.RouteParentStatus {
	ours := func(s gatewayv1.RouteParentStatus) bool { return s.ControllerName == translate.ControllerName }
	var own []gatewayv1.RouteParentStatus
	for i, ref := range refs {
		if slices.ContainsFunc(refs[:i], func(earlier gatewayv1.ParentReference) bool { return equality.Semantic.DeepEqual(earlier, ref) }) {
			continue
		}
		parent := world.ReduceParent(namespace, ref)
		var about []translate.Finding
		for _, f := range found {
			if f.Parent == parent {
				about = append(about, f)
			}
		}
		entry := gatewayv1.RouteParentStatus{ParentRef: ref, ControllerName: translate.ControllerName, Conditions: []metav1.Condition{}}
		at := slices.IndexFunc(before, func(s gatewayv1.RouteParentStatus) bool {
			return ours(s) && equality.Semantic.DeepEqual(s.ParentRef, ref)
		})
		if at >= 0 {
			entry.Conditions = before[at].Conditions
		}
		if len(about) == 0 {
			if at >= 0 && unknown(ref) {
				own = append(own, entry)
			}
			continue // not ours, or not looked at yet
		}
		applyFindings(&entry.Conditions, about, generation, parentTypes...)
		own = append(own, entry)
	}
	// Ours come where ours were: two controllers that each put their own at the end would write for ever.
	after := make([]gatewayv1.RouteParentStatus, 0, len(before)+len(own))
	for _, s := range before {
		switch {
		case !ours(s):
			after = append(after, s)
		case len(own) > 0:
			after, own = append(after, own[0]), own[1:]
		}
	}
	after = append(after, own...)
	return after[:min(len(after), maxParentStatuses)]
}
