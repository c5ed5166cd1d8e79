// SPDX-License-Identifier: Apache-2.0

package world

import gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

// ReduceListenerSet keeps all but the status.
func ReduceListenerSet(c Cluster, s *gatewayv1.ListenerSet) *ListenerSet {
	out := &ListenerSet{Key: Key{c, s.Namespace, s.Name}, Generation: s.Generation}
	if !s.CreationTimestamp.IsZero() {
		out.Created = s.CreationTimestamp.Unix()
	}
	if p := s.Spec.ParentRef; or(p.Group, gatewayv1.GroupName) == gatewayv1.GroupName && or(p.Kind, string(KindGateway)) == string(KindGateway) {
		out.Gateway = out.In(or(p.Namespace, s.Namespace), string(p.Name))
	}
	for _, l := range s.Spec.Listeners {
		if len(out.Listeners) == maxListeners {
			break
		}
		out.Listeners = append(out.Listeners, reduceListener(s.Namespace, gatewayv1.Listener(l)))
	}
	return out
}
