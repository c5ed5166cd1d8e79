// SPDX-License-Identifier: Apache-2.0

package world

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// NodeProxy says whether a pod looks like a node proxy that serves the pods of its node, or may begin to at any moment. Whether it is in the namespace where they are is not looked at.
type NodeProxy uint8

const (
	// NoNodeProxy is none, or one that has not begun.
	NoNodeProxy NodeProxy = iota
	// NodeProxyPlain takes nothing on a tunnel port but TLS, as far as is known.
	NodeProxyPlain
	// NodeProxyConfines takes a confinement before it (docs/hbone.md §13.9), by the word of the agent of its node.
	NodeProxyConfines
)

// Pod is an endpoint. Pods in a terminal phase are not put into the Store at all; see ReducePod.
type Pod struct {
	Key
	Labels         map[string]string
	Addresses      []netip.Addr
	Node           string
	ServiceAccount string
	HostNetwork    bool
	Ready          bool
	Deleting       bool // has a deletionTimestamp
	Captured       bool // its traffic is redirected to the node proxy, so it can be reached by HBONE
	NodeProxy      NodeProxy
	// WorkloadName and WorkloadKind are the controller's (the Deployment's for a ReplicaSet's pod).
	WorkloadName string
	WorkloadKind mesh.WorkloadKind
}

// Ref names the pod.
func (p *Pod) Ref() ObjectRef { return ObjectRef{KindPod, p.Key} }

// ServicePort is one port of a Service.
type ServicePort struct {
	Name string
	Port uint16
	// Target is the endpoints' port, 0 when it goes by name.
	Target uint16
	App    mesh.AppProtocol
}

// Service is a name with addresses.
type Service struct {
	Key
	Labels       map[string]string
	Addresses    []netip.Addr // cluster IPs
	Headless     bool
	ExternalName bool
	Ports        []ServicePort // TCP only: nothing else goes through the mesh
	UDPPorts     []ServicePort // for gateways, which have routes to them
	Unspoken     []uint16      // of Ports, those whose appProtocol is somebody's own (it has a prefix, as example.com/odd) and none that we know
	AsksTLS      []uint16      // of Ports, those whose appProtocol says that TLS is spoken there
	AtNodes      []uint16      // of both, those that nodes serve at the same number, for TCP and UDP alike if they are for both
	NodeLocal    bool          // internalTrafficPolicy: Local
	Distribution string        // trafficDistribution, or the annotation of that meaning
	NotReady     bool          // publishNotReadyAddresses
	Families     mesh.Families
	// Ingress are the addresses or hostnames that a load balancer gave, in its order.
	Ingress []string
	// Type is LoadBalancer, NodePort or ClusterIP.
	Type string
	// Owner is the UID of the object that controls it, such as the Gateway that it was made for; empty: none.
	Owner string
	// OwnerGateway is the name of that object if it is a Gateway.
	OwnerGateway string
	Deleting     bool // has a deletionTimestamp
}

// Ref names the service.
func (s *Service) Ref() ObjectRef { return ObjectRef{KindService, s.Key} }

// EndpointPort is one port of an EndpointSlice; Name is that of the Service's port.
type EndpointPort struct {
	Name string
	Port uint16
}

// Endpoint is one entry of an EndpointSlice.
type Endpoint struct {
	Pod       string // name of the pod in the slice's namespace; empty: no pod
	Addresses []netip.Addr
	Node      string
	Ready     bool
}

// EndpointSlice says who answers for a service.
type EndpointSlice struct {
	Key
	Service   string         // name of the Service, in the slice's namespace
	Ports     []EndpointPort // TCP only
	UDPPorts  []EndpointPort
	Endpoints []Endpoint
}

// Ref names the slice.
func (e *EndpointSlice) Ref() ObjectRef { return ObjectRef{KindEndpointSlice, e.Key} }

// Node is a place.
type Node struct {
	Key
	Locality mesh.Locality
	// Addresses are where it is reached from outside its cluster: external addresses, or else its own.
	Addresses []netip.Addr
}

// Ref names the node.
func (n *Node) Ref() ObjectRef { return ObjectRef{KindNode, n.Key} }

// Namespace carries labels that selectors read.
type Namespace struct {
	Key
	Labels       map[string]string
	Distribution string // the traffic-distribution annotation, inherited by the namespace's services
}

// Ref names the namespace.
func (n *Namespace) Ref() ObjectRef { return ObjectRef{KindNamespace, n.Key} }

// GatewayClass says whose a Gateway is.
type GatewayClass struct {
	Key
	Generation    int64
	Controller    string
	HasParameters bool
	// InboundBinding is the annotation of that name, for Gateways without one.
	InboundBinding string
}

// Ref names the class.
func (c *GatewayClass) Ref() ObjectRef { return ObjectRef{KindGatewayClass, c.Key} }

// GatewayAddress is an entry of spec.addresses or status.addresses.
type GatewayAddress struct {
	Type  string // IPAddress, Hostname, NamedAddress or domain-prefixed
	Value string
	// Routability of spec.addresses is whence it is to be reached; empty: from wherever it may be.
	Routability string
}

// Listener is a listener as the user wrote it.
type Listener struct {
	Name     string
	Port     uint16
	Protocol string
	Hostname string
	HasTLS   bool
	TLSMode  string
	// TLSOptions may be nil.
	TLSOptions   map[string]string
	Certificates []SecretRef
	HasFilters   bool     // of requests, before routes are looked for
	RouteKinds   []string // allowedRoutes.kinds as "group/Kind"
	// RoutesFrom is allowedRoutes.namespaces.from, RouteNamespaces its selector.
	RoutesFrom      string
	RouteNamespaces *Selector
}

// Gateway is a Gateway API Gateway.
type Gateway struct {
	Key
	UID            string
	Generation     int64
	Created        int64 // Unix seconds
	Deleting       bool
	Class          string
	Network        string // label topology.istio.io/network
	ServiceAccount string // annotation gateway.istio.io/service-account
	WaypointFor    string // label istio.io/waypoint-for
	InboundBinding string // annotation ambient.istio.io/waypoint-inbound-binding
	Listeners      []Listener
	// SetsFrom is allowedListeners.namespaces.from, SetNamespaces its selector.
	SetsFrom      string
	SetNamespaces *Selector
	Addresses     []GatewayAddress
	Status        []GatewayAddress
	// InfraLabels and InfraAnnotations go onto every object made for the Gateway.
	InfraLabels, InfraAnnotations map[string]string
	// Parameters is the ConfigMap that infrastructure.parametersRef names; HasParameters says that it names something else.
	Parameters    string
	HasParameters bool
	ServiceType   string
	// ClientCertificate is what it proves to backends; nil: nothing.
	ClientCertificate *SecretRef
	// Clients says what clients of HTTPS prove to it, but on the ports of PortClients; nil: nothing.
	Clients     *ClientValidation
	PortClients []PortValidation
}

// Ref names the gateway.
func (g *Gateway) Ref() ObjectRef { return ObjectRef{KindGateway, g.Key} }

// Requirement compares one label, as in a Kubernetes label selector.
type Requirement struct {
	Key      string
	Operator string // In, NotIn, Exists, DoesNotExist
	Values   []string
}

// Selector is an unchecked label selector; nil matches everything.
type Selector struct {
	MatchLabels  map[string]string
	Requirements []Requirement
}

// ScopeEntry is one rule of a ServiceScope, unchecked.
type ScopeEntry struct {
	Namespaces, Services *Selector
	Scope                string
}

// ServiceScope is the ordered rules of one object.
type ServiceScope struct {
	Key
	Generation int64
	Priority   int32
	Entries    []ScopeEntry
}

// Ref names the object.
func (s *ServiceScope) Ref() ObjectRef { return ObjectRef{KindServiceScope, s.Key} }

// RemoteCluster bounds what another cluster may claim. A cluster without one is believed within the default limits.
type RemoteCluster struct {
	Key
	Generation   int64
	Created      int64 // Unix seconds, 0 if it is still to be made: of clusters that contradict each other the one linked first is believed
	ID           Cluster
	Network      string         // overrides the label of the remote system namespace
	TrustDomain  string         // of its workloads' identities; empty: ours
	Namespaces   []string       // allowed; empty: all
	Identities   []string       // allowed "<namespace>/<service account>", either may be "*"; empty: all
	Networks     []string       // besides its own, on which it may have pods and Gateways
	PodCIDRs     []netip.Prefix // in which its pods are that share a network with ours; empty: anywhere. The zero Prefix holds none
	MaxServices  int
	MaxEndpoints int
}

// Ref names the object.
func (r *RemoteCluster) Ref() ObjectRef { return ObjectRef{KindRemoteCluster, r.Key} }

// PolicySource is one alternative of an AuthorizationPolicy rule's from. Foreign says that it also asks for something that nobody here
// knows: who a request itself says that it is from.
type PolicySource struct {
	Principals, NotPrincipals           []string
	Namespaces, NotNamespaces           []string
	ServiceAccounts, NotServiceAccounts []string
	IPBlocks, NotIPBlocks               []string
	TrustDomains, NotTrustDomains       []string
	Foreign                             bool
}

// PolicyOperation is one alternative of an AuthorizationPolicy rule's to.
type PolicyOperation struct {
	Ports, NotPorts     []string
	Hosts, NotHosts     []string
	Methods, NotMethods []string
	Paths, NotPaths     []string
}

// PolicyCondition is one entry of an AuthorizationPolicy rule's when.
type PolicyCondition struct {
	Key               string
	Values, NotValues []string
}

// PolicyRule is one rule of an AuthorizationPolicy.
type PolicyRule struct {
	From []PolicySource
	To   []PolicyOperation
	When []PolicyCondition
}

// PolicyTarget is an object of the policy's namespace that the policy is about.
type PolicyTarget struct{ Group, Kind, Name string }

// AuthorizationPolicy is an Istio AuthorizationPolicy, unchecked.
type AuthorizationPolicy struct {
	Key
	Generation int64
	Selector   map[string]string // empty: all workloads of the namespace
	HasTargets bool              // it is about waypoints or gateways
	Targets    []PolicyTarget    // which; bounded, so perhaps not all
	Action     string            // ALLOW, DENY, AUDIT or CUSTOM
	DryRun     bool
	Rules      []PolicyRule
}

// Ref names the policy.
func (p *AuthorizationPolicy) Ref() ObjectRef { return ObjectRef{KindAuthorizationPolicy, p.Key} }

// PeerAuthentication is an Istio PeerAuthentication.
type PeerAuthentication struct {
	Key
	Generation int64
	Created    int64 // Unix seconds; the oldest of several counts
	Selector   map[string]string
	Mode       string            // UNSET, DISABLE, PERMISSIVE or STRICT
	Ports      map[uint16]string // port → mode
	OddPorts   []uint32          // keys of portLevelMtls that are no ports; sorted, and bounded, so perhaps not all
}

// Ref names the object.
func (p *PeerAuthentication) Ref() ObjectRef { return ObjectRef{KindPeerAuthentication, p.Key} }

// VIP are the addresses that this cluster reserved for a service that it does not define itself. Its key has no cluster,
// and the service's hostname as name; make it with NewVIP.
type VIP struct {
	Key
	V4, V6 netip.Addr // either may be zero
}

// NewVIP makes the value for a service.
func NewVIP(service mesh.ServiceKey, v4, v6 netip.Addr) *VIP {
	return &VIP{Key: VIPKey(service), V4: v4, V6: v6}
}

// VIPKey is the key of a service's VIP.
func VIPKey(service mesh.ServiceKey) Key {
	return Key{Namespace: service.Namespace, Name: service.Hostname}
}

// Ref names the reservation.
func (v *VIP) Ref() ObjectRef { return ObjectRef{KindVIP, v.Key} }
