// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// ControllerName is the controller of GatewayClasses that are ours.
const ControllerName = "isthmus.dev/gateway-controller"

// Names of classes.
const (
	ClassEastWest = "eastwest"
	ClassWaypoint = "waypoint"
	// ClassIstioEastWest is read in remote clusters that Istio serves.
	ClassIstioEastWest = "istio-east-west"
)

// ConditionAccepted is the condition type on kinds that are not ours, such as Service and AuthorizationPolicy.
const ConditionAccepted = "isthmus.dev/Accepted"

// Finding is one condition on the object (or on one listener of the Gateway) that caused it.
type Finding struct {
	Listener   string            // set: the condition belongs to this listener
	Parent     world.RouteParent // set: the condition belongs to this parent of a route
	Type       string
	Status     string // True or False
	Reason     string
	Message    string
	Generation int64 // of the object, 0 where the kind has none that matters
	// UID is that of a Gateway, and not set of other kinds: what was found of an earlier one of the name is not about the one that is there, which begins with the same generations.
	UID string
}

// GatewayPlan is what must run for an accepted Gateway.
type GatewayPlan struct {
	Key     world.Key
	UID     string
	Class   string
	Network string
	// Name is that of everything that is made for the Gateway.
	Name           string
	ServiceAccount string
	// Unmanaged says that nothing is to be made for the Gateway: it names a Service of its own. Kept says that what was made before goes on as it is all the same, and its pods are made again if somebody deletes them: that Service
	// cannot take its place yet. When it can, what was made goes after a while, in which its connections end.
	Unmanaged, Kept bool
	// Overlay is what its parametersRef says; nil: nothing.
	Overlay *world.Overlay
	// Listeners are the ports of the valid ones, each once; nothing but name, ports and protocol is set.
	Listeners []mesh.Listener
	// Addresses are IPs asked for; empty: whatever the load balancer gives.
	Addresses []string
	// ServiceType is LoadBalancer, NodePort or ClusterIP.
	ServiceType                   string
	InfraLabels, InfraAnnotations map[string]string
}

// ScopeStatus is the status of a local ServiceScope, but for its conditions, which are Findings.
type ScopeStatus struct {
	Global, Local int // services of this cluster that it decides
	// Conflicts are sorted by service; at most MaxConflicts are kept.
	Conflicts []Conflict
	// ConflictCount counts all.
	ConflictCount int
}

// MaxConflicts bounds the conflicts that a ServiceScope's status lists.
const MaxConflicts = 16

// Conflict is a difference between clusters' definitions of one service.
type Conflict struct {
	Namespace, Name string
	Clusters        []world.Cluster
	Message         string
}

// RemoteCount is what is taken from a remote cluster.
type RemoteCount struct {
	Network   string
	Services  int // global services in use here
	Endpoints int // their healthy pods
	// LeftOut counts global services that import limits keep out.
	LeftOut int
	// Strangers counts pods behind services in use whose identities import limits keep out.
	Strangers int
	// RefusedPods and RefusedDoors count pods, and addresses of Gateways, that claim what is not theirs.
	RefusedPods, RefusedDoors int
	// Astray counts pods on networks of ours at addresses that import limits do not let the cluster have.
	Astray int
	// UnpermittedDoors counts addresses of Gateways in namespaces that may have none that lead into the cluster, CrowdedDoors those beyond what is used of one network.
	UnpermittedDoors, CrowdedDoors int
	// TakenDoors counts addresses and ports of Gateways that a cluster linked earlier has, and DoorHolder is the first of these clusters.
	TakenDoors int
	DoorHolder world.Cluster
	// RefusedNetworks counts pods that claim to be on a network on which the cluster may have none, and RefusedNetwork is the first of these networks.
	RefusedNetworks int
	RefusedNetwork  string
	// Scattered counts global services that are not used because pods of too many identities are behind them.
	Scattered int
	// RefusedScopes counts ServiceScopes beyond those that are asked of one cluster: what they alone would make GLOBAL stays local.
	RefusedScopes int
}

// Output is everything that follows from a State.
type Output struct {
	Mesh mesh.Snapshot
	// Findings are per object; an object without any has no entry.
	Findings map[world.ObjectRef][]Finding
	// Gateways holds a plan per accepted local Gateway of our classes.
	Gateways map[world.Key]*GatewayPlan
	// GatewayAddresses are the status.addresses of our Gateways; one without addresses has an empty entry.
	GatewayAddresses map[world.Key][]world.GatewayAddress
	// Scopes holds an entry per local ServiceScope.
	Scopes map[world.Key]ScopeStatus
	// Remotes holds an entry per remote cluster of which anything is known.
	Remotes map[world.Cluster]RemoteCount
	// WantVIPs are the services that need an address of ours, and for each the clusters that have it, in order. The address counts as the first one's.
	WantVIPs map[mesh.ServiceKey][]world.Cluster
	// Listeners holds an entry per Gateway of ours and per ListenerSet that one lets in, with its listeners in their order.
	Listeners map[world.ObjectRef][]ListenerState
	// AttachedSets counts the ListenerSets that are accepted; it holds an entry per Gateway of ours that any names.
	AttachedSets map[world.Key]int
	// WantWaypoints are the namespaces of our own cluster that need a Gateway AutomaticWaypoint, sorted: Services are to be behind it.
	WantWaypoints []string
	// WantObjects are the Secrets and ConfigMaps with certificates that are referred to, and may be, sorted.
	WantObjects []world.ObjectRef
}

// Change is what a delta did to an Output. Nil (or false) values mean: no longer there.
type Change struct {
	Mesh             mesh.Delta
	Findings         map[world.ObjectRef][]Finding // empty: none any more
	Gateways         map[world.Key]*GatewayPlan
	GatewayAddresses map[world.Key]*[]world.GatewayAddress
	Scopes           map[world.Key]*ScopeStatus
	Remotes          map[world.Cluster]*RemoteCount
	VIPs             map[mesh.ServiceKey][]world.Cluster // which clusters have it now; nil: wanted no longer
	Listeners        map[world.ObjectRef]*[]ListenerState
	AttachedSets     map[world.Key]*int
	Objects          map[world.ObjectRef]bool // true: wanted now, false: wanted no longer
	Waypoints        map[string]bool          // the same of namespaces' automatic waypoints
	// Translated is how many objects (services, pods, slices, policies, and, where Gateways are looked at, those and the endpoints behind them) were looked at for it, whether they changed or not.
	Translated int
}

// Empty says that nothing changed.
func (c Change) Empty() bool {
	return c.Mesh.Empty() && len(c.Findings)+len(c.Gateways)+len(c.GatewayAddresses)+len(c.Scopes)+len(c.Remotes)+len(c.VIPs)+len(c.Listeners)+len(c.AttachedSets)+len(c.Objects)+len(c.Waypoints) == 0
}
