// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// scheme knows every kind that the controllers read or write.
var scheme = newScheme()

// Scheme gives the scheme with every kind that the controllers read or write. It must not be changed.
func Scheme() *runtime.Scheme { return scheme }

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(gatewayv1.Install(s))
	utilruntime.Must(gatewayxv1alpha1.Install(s))
	utilruntime.Must(securityv1.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// remoteKinds are read from other clusters: what their services are made of, how to reach them, and which of them they share.
// Policies are a cluster's own business.
func remoteKinds() []watched {
	return []watched{
		kindOf[corev1.Namespace](world.KindNamespace, false),
		kindOf[corev1.Node](world.KindNode, false),
		kindOf[corev1.Pod](world.KindPod, false),
		kindOf[corev1.Service](world.KindService, false),
		kindOf[discoveryv1.EndpointSlice](world.KindEndpointSlice, false),
		kindOf[gatewayv1.GatewayClass](world.KindGatewayClass, true),
		kindOf[gatewayv1.Gateway](world.KindGateway, true),
		kindOf[v1alpha1.ServiceScope](world.KindServiceScope, true),
	}
}

// localKinds are read from our own cluster. RemoteClusters are not among them: which of them count is for a plan to say.
func localKinds() []watched {
	return append(remoteKinds(),
		kindOf[gatewayv1.ListenerSet](world.KindListenerSet, true),
		kindOf[gatewayv1.HTTPRoute](world.KindHTTPRoute, true),
		kindOf[gatewayv1.GRPCRoute](world.KindGRPCRoute, true),
		kindOf[gatewayv1.TLSRoute](world.KindTLSRoute, true),
		kindOf[gatewayv1.TCPRoute](world.KindTCPRoute, true),
		kindOf[gatewayv1.UDPRoute](world.KindUDPRoute, true),
		kindOf[gatewayv1.ReferenceGrant](world.KindReferenceGrant, true),
		kindOf[gatewayv1.BackendTLSPolicy](world.KindBackendTLSPolicy, true),
		kindOf[securityv1.AuthorizationPolicy](world.KindAuthorizationPolicy, true),
		kindOf[securityv1.PeerAuthentication](world.KindPeerAuthentication, true),
	)
}

func kindOf[O any, PO interface {
	*O
	client.Object
}](kind world.Kind, optional bool) watched {
	return watched{kind: kind, optional: optional, object: func() client.Object { return PO(new(O)) }}
}

// reduceForCache keeps in the cache of our own cluster only what the controllers read: a pod's specification is most of its size.
// Annotations go from kinds that we never write; a status that is written from the cache takes the object's own along.
func reduceForCache(in any) (any, error) {
	object, ok := in.(metav1.Object)
	if !ok {
		return in, nil // a tombstone: nothing to reduce
	}
	managed := object.GetManagedFields()
	object.SetManagedFields(nil)
	switch o := in.(type) {
	case *gatewayv1.ListenerSet:
		o.ManagedFields = ownFields(managed) // see fillListenerSet
	case *corev1.Pod:
		o.Spec = corev1.PodSpec{
			NodeName: o.Spec.NodeName, ServiceAccountName: o.Spec.ServiceAccountName, HostNetwork: o.Spec.HostNetwork,
		}
		o.Status = corev1.PodStatus{
			Phase: o.Status.Phase, PodIP: o.Status.PodIP, PodIPs: o.Status.PodIPs, Conditions: o.Status.Conditions,
		}
		o.Annotations = only(o.Annotations, world.AnnotationRedirection, world.AnnotationConfines)
	case *corev1.Node:
		o.Spec, o.Status, o.Annotations = corev1.NodeSpec{}, corev1.NodeStatus{Addresses: o.Status.Addresses}, nil
	case *corev1.Namespace:
		o.Annotations = only(o.Annotations, world.AnnotationDistribution)
	case *discoveryv1.EndpointSlice:
		o.Annotations = nil
	}
	return in, nil
}

// only keeps some annotations, of those that are there.
func only(annotations map[string]string, names ...string) (kept map[string]string) {
	for _, name := range names {
		if v, ok := annotations[name]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[name] = v
		}
	}
	return kept
}

// gitVersion reads the answer of /version; "" when it is not one.
func gitVersion(body []byte) string {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if json.Unmarshal(body, &v) != nil || len(v.GitVersion) > 64 {
		return ""
	}
	return v.GitVersion
}
