// SPDX-License-Identifier: Apache-2.0

package world

import "fmt"

// Config is what the process was started with.
type Config struct {
	LocalCluster Cluster
	TrustDomain  string // such as cluster.local
	// TrustDomainAliases are other names of it, whose identities are ours.
	TrustDomainAliases []string
	ClusterDomain      string // such as cluster.local
	SystemNamespace    string // such as isthmus-system
}

// Tables hold values by kind and key. The values are shared and immutable, the maps belong to the holder.
type Tables struct {
	Pods                  map[Key]*Pod
	Services              map[Key]*Service
	EndpointSlices        map[Key]*EndpointSlice
	Nodes                 map[Key]*Node
	Namespaces            map[Key]*Namespace
	GatewayClasses        map[Key]*GatewayClass
	Gateways              map[Key]*Gateway
	ServiceScopes         map[Key]*ServiceScope
	RemoteClusters        map[Key]*RemoteCluster
	AuthorizationPolicies map[Key]*AuthorizationPolicy
	PeerAuthentications   map[Key]*PeerAuthentication
	VIPs                  map[Key]*VIP
	Overlays              map[Key]*Overlay
	ListenerSets          map[Key]*ListenerSet
	HTTPRoutes            map[Key]*HTTPRoute
	GRPCRoutes            map[Key]*GRPCRoute
	TLSRoutes             map[Key]*TLSRoute
	TCPRoutes             map[Key]*TCPRoute
	UDPRoutes             map[Key]*UDPRoute
	ReferenceGrants       map[Key]*ReferenceGrant
	Secrets               map[Key]*Secret  // those that are referred to
	Anchors               map[Key]*Anchors // the same of ConfigMaps with CA certificates
	BackendTLSPolicies    map[Key]*BackendTLSPolicy
}

// State is everything that was read from all clusters.
type State struct{ Tables }

// Delta is what turns one State into another. A nil value means that the object is gone.
type Delta struct{ Tables }

// NewState is an empty state.
func NewState() *State { return &State{newTables()} }

// NewDelta is an empty delta.
func NewDelta() Delta { return Delta{newTables()} }

func newTables() Tables {
	return Tables{
		Pods:                  map[Key]*Pod{},
		Services:              map[Key]*Service{},
		EndpointSlices:        map[Key]*EndpointSlice{},
		Nodes:                 map[Key]*Node{},
		Namespaces:            map[Key]*Namespace{},
		GatewayClasses:        map[Key]*GatewayClass{},
		Gateways:              map[Key]*Gateway{},
		ServiceScopes:         map[Key]*ServiceScope{},
		RemoteClusters:        map[Key]*RemoteCluster{},
		AuthorizationPolicies: map[Key]*AuthorizationPolicy{},
		PeerAuthentications:   map[Key]*PeerAuthentication{},
		VIPs:                  map[Key]*VIP{},
		Overlays:              map[Key]*Overlay{},
		ListenerSets:          map[Key]*ListenerSet{},
		HTTPRoutes:            map[Key]*HTTPRoute{},
		GRPCRoutes:            map[Key]*GRPCRoute{},
		TLSRoutes:             map[Key]*TLSRoute{},
		TCPRoutes:             map[Key]*TCPRoute{},
		UDPRoutes:             map[Key]*UDPRoute{},
		ReferenceGrants:       map[Key]*ReferenceGrant{},
		Secrets:               map[Key]*Secret{},
		Anchors:               map[Key]*Anchors{},
		BackendTLSPolicies:    map[Key]*BackendTLSPolicy{},
	}
}

// Apply changes the state's maps in place.
func (s *State) Apply(d Delta) {
	apply(s.Pods, d.Pods)
	apply(s.Services, d.Services)
	apply(s.EndpointSlices, d.EndpointSlices)
	apply(s.Nodes, d.Nodes)
	apply(s.Namespaces, d.Namespaces)
	apply(s.GatewayClasses, d.GatewayClasses)
	apply(s.Gateways, d.Gateways)
	apply(s.ServiceScopes, d.ServiceScopes)
	apply(s.RemoteClusters, d.RemoteClusters)
	apply(s.AuthorizationPolicies, d.AuthorizationPolicies)
	apply(s.PeerAuthentications, d.PeerAuthentications)
	apply(s.VIPs, d.VIPs)
	apply(s.Overlays, d.Overlays)
	apply(s.ListenerSets, d.ListenerSets)
	apply(s.HTTPRoutes, d.HTTPRoutes)
	apply(s.GRPCRoutes, d.GRPCRoutes)
	apply(s.TLSRoutes, d.TLSRoutes)
	apply(s.TCPRoutes, d.TCPRoutes)
	apply(s.UDPRoutes, d.UDPRoutes)
	apply(s.ReferenceGrants, d.ReferenceGrants)
	apply(s.Secrets, d.Secrets)
	apply(s.Anchors, d.Anchors)
	apply(s.BackendTLSPolicies, d.BackendTLSPolicies)
}

func apply[V any](into, changes map[Key]*V) {
	for k, v := range changes {
		if v == nil {
			delete(into, k)
		} else {
			into[k] = v
		}
	}
}

// Len counts the objects that change.
func (d Delta) Len() int {
	return len(d.Pods) + len(d.Services) + len(d.EndpointSlices) + len(d.Nodes) + len(d.Namespaces) + len(d.GatewayClasses) +
		len(d.Gateways) + len(d.ServiceScopes) + len(d.RemoteClusters) + len(d.AuthorizationPolicies) +
		len(d.PeerAuthentications) + len(d.VIPs) + len(d.Overlays) + len(d.ListenerSets) + len(d.HTTPRoutes) + len(d.GRPCRoutes) + len(d.TLSRoutes) + len(d.TCPRoutes) + len(d.UDPRoutes) +
		len(d.ReferenceGrants) + len(d.Secrets) + len(d.Anchors) + len(d.BackendTLSPolicies)
}

// Put adds an object to the delta, or replaces it.
func (d Delta) Put(o Object) {
	switch o := o.(type) {
	case *Pod:
		d.Pods[o.Key] = o
	case *Service:
		d.Services[o.Key] = o
	case *EndpointSlice:
		d.EndpointSlices[o.Key] = o
	case *Node:
		d.Nodes[o.Key] = o
	case *Namespace:
		d.Namespaces[o.Key] = o
	case *GatewayClass:
		d.GatewayClasses[o.Key] = o
	case *Gateway:
		d.Gateways[o.Key] = o
	case *ServiceScope:
		d.ServiceScopes[o.Key] = o
	case *RemoteCluster:
		d.RemoteClusters[o.Key] = o
	case *AuthorizationPolicy:
		d.AuthorizationPolicies[o.Key] = o
	case *PeerAuthentication:
		d.PeerAuthentications[o.Key] = o
	case *VIP:
		d.VIPs[o.Key] = o
	case *Overlay:
		d.Overlays[o.Key] = o
	case *ListenerSet:
		d.ListenerSets[o.Key] = o
	case *HTTPRoute:
		d.HTTPRoutes[o.Key] = o
	case *GRPCRoute:
		d.GRPCRoutes[o.Key] = o
	case *TLSRoute:
		d.TLSRoutes[o.Key] = o
	case *TCPRoute:
		d.TCPRoutes[o.Key] = o
	case *UDPRoute:
		d.UDPRoutes[o.Key] = o
	case *ReferenceGrant:
		d.ReferenceGrants[o.Key] = o
	case *Secret:
		d.Secrets[o.Key] = o
	case *Anchors:
		d.Anchors[o.Key] = o
	case *BackendTLSPolicy:
		d.BackendTLSPolicies[o.Key] = o
	default:
		panic(fmt.Sprintf("world: %T is no kind of object that is read", o)) // a new kind was forgotten here
	}
}

// Delete says that an object is gone.
func (d Delta) Delete(ref ObjectRef) {
	switch ref.Kind {
	case KindPod:
		d.Pods[ref.Key] = nil
	case KindService:
		d.Services[ref.Key] = nil
	case KindEndpointSlice:
		d.EndpointSlices[ref.Key] = nil
	case KindNode:
		d.Nodes[ref.Key] = nil
	case KindNamespace:
		d.Namespaces[ref.Key] = nil
	case KindGatewayClass:
		d.GatewayClasses[ref.Key] = nil
	case KindGateway:
		d.Gateways[ref.Key] = nil
	case KindServiceScope:
		d.ServiceScopes[ref.Key] = nil
	case KindRemoteCluster:
		d.RemoteClusters[ref.Key] = nil
	case KindAuthorizationPolicy:
		d.AuthorizationPolicies[ref.Key] = nil
	case KindPeerAuthentication:
		d.PeerAuthentications[ref.Key] = nil
	case KindVIP:
		d.VIPs[ref.Key] = nil
	case KindOverlay:
		d.Overlays[ref.Key] = nil
	case KindListenerSet:
		d.ListenerSets[ref.Key] = nil
	case KindHTTPRoute:
		d.HTTPRoutes[ref.Key] = nil
	case KindGRPCRoute:
		d.GRPCRoutes[ref.Key] = nil
	case KindTLSRoute:
		d.TLSRoutes[ref.Key] = nil
	case KindTCPRoute:
		d.TCPRoutes[ref.Key] = nil
	case KindUDPRoute:
		d.UDPRoutes[ref.Key] = nil
	case KindReferenceGrant:
		d.ReferenceGrants[ref.Key] = nil
	case KindSecret:
		d.Secrets[ref.Key] = nil
	case KindAnchors:
		d.Anchors[ref.Key] = nil
	case KindBackendTLSPolicy:
		d.BackendTLSPolicies[ref.Key] = nil
	default:
		panic(fmt.Sprintf("world: %q is no kind of object that is read", ref.Kind))
	}
}
