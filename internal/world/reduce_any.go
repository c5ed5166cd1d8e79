// SPDX-License-Identifier: Apache-2.0

package world

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// Reduce gives the value of any watched API object as seen in a cluster. It is nil for objects that count as absent (such as
// a pod that has ended) and for kinds that are not read.
func Reduce(c Cluster, obj any) Object {
	switch o := obj.(type) {
	case *corev1.Pod:
		if p := ReducePod(c, o); p != nil {
			return p
		}
	case *corev1.Service:
		if s := ReduceService(c, o); s != nil {
			return s
		}
	case *discoveryv1.EndpointSlice:
		if e := ReduceEndpointSlice(c, o); e != nil {
			return e
		}
	case *corev1.Node:
		return ReduceNode(c, o)
	case *corev1.Namespace:
		return ReduceNamespace(c, o)
	case *gatewayv1.GatewayClass:
		return ReduceGatewayClass(c, o)
	case *gatewayv1.Gateway:
		return ReduceGateway(c, o)
	case *gatewayv1.ListenerSet:
		return ReduceListenerSet(c, o)
	case *gatewayv1.HTTPRoute:
		return ReduceHTTPRoute(c, o)
	case *gatewayv1.GRPCRoute:
		return ReduceGRPCRoute(c, o)
	case *gatewayv1.TLSRoute:
		return ReduceTLSRoute(c, o)
	case *gatewayv1.TCPRoute:
		return ReduceTCPRoute(c, o)
	case *gatewayv1.UDPRoute:
		return ReduceUDPRoute(c, o)
	case *gatewayv1.ReferenceGrant:
		return ReduceReferenceGrant(c, o)
	case *corev1.Secret:
		return ReduceSecret(c, o)
	case *v1alpha1.ServiceScope:
		return ReduceServiceScope(c, o)
	case *v1alpha1.RemoteCluster:
		return ReduceRemoteCluster(c, o)
	case *securityv1.AuthorizationPolicy:
		return ReduceAuthorizationPolicy(c, o)
	case *securityv1.PeerAuthentication:
		return ReducePeerAuthentication(c, o)
	case *gatewayv1.BackendTLSPolicy:
		return ReduceBackendTLSPolicy(c, o)
	case *corev1.ConfigMap:
		if _, anchors := o.Data[KeyAnchors]; anchors {
			return ReduceAnchors(c, o)
		}
		return ReduceOverlay(c, o)
	}
	return nil
}
