// SPDX-License-Identifier: Apache-2.0

package world

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ReduceTCPRoute keeps all but the status, and the names of rules.
func ReduceTCPRoute(c Cluster, r *gatewayv1.TCPRoute) *TCPRoute {
	out := &TCPRoute{reduceStream(c, r, r.Spec.ParentRefs)}
	for _, rule := range r.Spec.Rules {
		out.Rules = append(out.Rules, rule.BackendRefs)
	}
	return out
}

// ReduceUDPRoute keeps all but the status, and the names of rules.
func ReduceUDPRoute(c Cluster, r *gatewayv1.UDPRoute) *UDPRoute {
	out := &UDPRoute{reduceStream(c, r, r.Spec.ParentRefs)}
	for _, rule := range r.Spec.Rules {
		out.Rules = append(out.Rules, rule.BackendRefs)
	}
	return out
}

func reduceStream(c Cluster, r metav1.Object, parents []gatewayv1.ParentReference) StreamRoute {
	out := StreamRoute{Key: Key{c, r.GetNamespace(), r.GetName()}, Generation: r.GetGeneration()}
	if created := r.GetCreationTimestamp(); !created.IsZero() {
		out.Created = created.Unix()
	}
	for _, p := range parents {
		out.Parents = append(out.Parents, ReduceParent(r.GetNamespace(), p))
	}
	return out
}
