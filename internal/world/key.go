// SPDX-License-Identifier: Apache-2.0

package world

import "cmp"

// Cluster is a cluster's id.
type Cluster string

// Key names an object of a known kind. Namespace is empty for cluster-scoped kinds.
type Key struct {
	Cluster         Cluster
	Namespace, Name string
}

// String gives "cluster/namespace/name", or "cluster/name" for cluster-scoped kinds.
func (k Key) String() string {
	if k.Namespace == "" {
		return string(k.Cluster) + "/" + k.Name
	}
	return string(k.Cluster) + "/" + k.Namespace + "/" + k.Name
}

// Compare orders keys by cluster, namespace and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Cluster, o.Cluster), cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// In is the key of another object, in the same cluster.
func (k Key) In(namespace, name string) Key {
	return Key{Cluster: k.Cluster, Namespace: namespace, Name: name}
}

// Kind is a kind of object that is read.
type Kind string

// The kinds that are read.
const (
	KindPod                 Kind = "Pod"
	KindService             Kind = "Service"
	KindEndpointSlice       Kind = "EndpointSlice"
	KindNode                Kind = "Node"
	KindNamespace           Kind = "Namespace"
	KindGatewayClass        Kind = "GatewayClass"
	KindGateway             Kind = "Gateway"
	KindServiceScope        Kind = "ServiceScope"
	KindRemoteCluster       Kind = "RemoteCluster"
	KindAuthorizationPolicy Kind = "AuthorizationPolicy"
	KindPeerAuthentication  Kind = "PeerAuthentication"
	KindVIP                 Kind = "VIP"
	KindOverlay             Kind = "Overlay"
	KindListenerSet         Kind = "ListenerSet"
	KindHTTPRoute           Kind = "HTTPRoute"
	KindGRPCRoute           Kind = "GRPCRoute"
	KindTLSRoute            Kind = "TLSRoute"
	KindTCPRoute            Kind = "TCPRoute"
	KindUDPRoute            Kind = "UDPRoute"
	KindReferenceGrant      Kind = "ReferenceGrant"
	KindSecret              Kind = "Secret"
	KindAnchors             Kind = "ConfigMap"
	KindBackendTLSPolicy    Kind = "BackendTLSPolicy"
)

// ObjectRef names any object. It is comparable.
type ObjectRef struct {
	Kind Kind
	Key
}

// String gives "Kind cluster/namespace/name".
func (r ObjectRef) String() string { return string(r.Kind) + " " + r.Key.String() }

// Compare orders references by kind, then key.
func (r ObjectRef) Compare(o ObjectRef) int {
	return cmp.Or(cmp.Compare(r.Kind, o.Kind), r.Key.Compare(o.Key))
}

// Object is any of the values of this package. All of them are pointers to structs that embed a Key.
type Object interface {
	Ref() ObjectRef
}
