// SPDX-License-Identifier: Apache-2.0

package world

import (
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// GRPCRoute is a Gateway API GRPCRoute of our own cluster. All but what its rules match is what an HTTPRoute has, and is kept as such.
type GRPCRoute struct {
	HTTPRoute
	// Matches are those of the rules, as the API has them.
	Matches [][]gatewayv1.GRPCRouteMatch
}

// Ref names the route.
func (r *GRPCRoute) Ref() ObjectRef { return ObjectRef{KindGRPCRoute, r.Key} }

// ReduceGRPCRoute keeps all but the status.
func ReduceGRPCRoute(c Cluster, r *gatewayv1.GRPCRoute) *GRPCRoute {
	out := &GRPCRoute{HTTPRoute: HTTPRoute{Key: Key{c, r.Namespace, r.Name}, Generation: r.Generation}}
	if !r.CreationTimestamp.IsZero() {
		out.Created = r.CreationTimestamp.Unix()
	}
	for _, p := range r.Spec.ParentRefs {
		out.Parents = append(out.Parents, ReduceParent(r.Namespace, p))
	}
	for _, h := range r.Spec.Hostnames {
		out.Hostnames = append(out.Hostnames, strings.ToLower(string(h)))
	}
	for i := range r.Spec.Rules {
		from := &r.Spec.Rules[i]
		rule := gatewayv1.HTTPRouteRule{Name: from.Name, Filters: filtersOfGRPC(from.Filters)}
		for _, b := range from.BackendRefs {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: b.BackendRef, Filters: filtersOfGRPC(b.Filters)})
		}
		out.Rules, out.Matches = append(out.Rules, rule), append(out.Matches, from.Matches)
	}
	return out
}

// filtersOfGRPC says in HTTPRoute's words what filters do: their types have the same names.
func filtersOfGRPC(in []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	var out []gatewayv1.HTTPRouteFilter
	for _, f := range in {
		out = append(out, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return out
}
