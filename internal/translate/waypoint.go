// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// ConditionWaypointBound is on a Service that asks for a waypoint, with its label or its namespace's.
const ConditionWaypointBound = "istio.io/WaypointBound"

// Reasons of ConditionWaypointBound.
const (
	ReasonWaypointAccepted    = "WaypointAccepted"    // True
	ReasonWaypointMissing     = "WaypointMissing"     // there is no such Gateway
	ReasonWaypointInvalid     = "WaypointInvalid"     // it is no waypoint
	ReasonWaypointNotReady    = "WaypointNotReady"    // it has no address
	ReasonWaypointNotAllowed  = "WaypointNotAllowed"  // it does not let in the namespace
	ReasonWaypointForOthers   = "WaypointForOthers"   // it is for workloads only
	ReasonProvisioned         = "Provisioned"         // it is being made
	classIstioWaypoint        = "istio-waypoint"      // served by Istio
	waypointNone              = "none"                // value of the label that wants no waypoint, whatever the namespace wants
	forServices, forWorkloads = "service", "workload" // values of label istio.io/waypoint-for; the first is the default
	forAll                    = "all"
)

// wish is a waypoint that labels ask for.
type wish struct {
	set     bool      // the labels say something
	gateway world.Key // zero: they want none
}

func (w wish) wanted() bool { return w.gateway != world.Key{} }

// wishOf reads the labels of an object of a cluster and namespace. What belongs to a gateway is never behind a waypoint: it might be
// its own.
func wishOf(of map[string]string, c world.Cluster, namespace string) wish {
	name, ok := of[world.LabelUseWaypoint]
	if !ok || name == "" {
		return wish{}
	}
	if name == waypointNone {
		return wish{set: true}
	}
	return wish{true, world.Key{Cluster: c, Namespace: cmp.Or(of[world.LabelUseWaypointNamespace], namespace), Name: name}}
}

// wishFor is what an object asks for, or else its namespace does.
func (x *index) wishFor(of map[string]string, c world.Cluster, namespace string) (w wish, own bool) {
	if of[LabelGatewayName] != "" {
		return wish{}, false
	}
	if w := wishOf(of, c, namespace); w.set {
		return w, true
	}
	return wishOf(x.namespaceLabels(c, namespace), c, namespace), false
}

// serviceWaypoint is the waypoint in front of a Service of our own cluster, and what to say of it there.
func (x *index) serviceWaypoint(s *world.Service) (bound, []Finding) {
	w, own := x.serviceWish(s)
	if !w.wanted() {
		return bound{}, nil
	}
	at, reason, message := x.bind(w.gateway, s.Namespace, forServices)
	if reason == ReasonWaypointForOthers && !own {
		return bound{}, nil // a namespace's waypoint may well be for its workloads
	}
	out := bound{at: at}
	if at != nil || reason == ReasonWaypointNotReady {
		out.gateway = w.gateway
	}
	if at == nil && x.automatic(w.gateway) && x.needsWaypoint(s) {
		return out, nil // nobody asked for it here; what is missing is said on the routes
	}
	f := Finding{Type: ConditionWaypointBound, Status: isTrue, Reason: ReasonWaypointAccepted,
		Message: fmt.Sprintf("connections to the Service go through waypoint %s/%s", w.gateway.Namespace, w.gateway.Name)}
	if at != nil && message != "" {
		f.Message += "; " + message
	}
	if at == nil {
		f.Status, f.Reason, f.Message = isFalse, reason, message+": connections go straight to the endpoints"
	}
	return out, []Finding{f}
}

// bound is the waypoint that a Service is behind.
type bound struct {
	at *mesh.GatewayAddress // nil: none
	// gateway takes the Service in, and is told of its routes; without at it has no address yet. Zero: there is none.
	gateway world.Key
}

// foldBound notes which waypoint a service is behind now. It says whether one of our own is told of more or less.
func (x *index) foldBound(n serviceName, was, now bound) bool {
	if was.gateway == now.gateway && (was.at == nil) == (now.at == nil) {
		return false
	}
	if was.gateway != (world.Key{}) {
		x.takenIn.remove(was.gateway, n)
	}
	if now.gateway != (world.Key{}) {
		x.takenIn.add(now.gateway, n)
	}
	if was.at != nil {
		x.behind.remove(was.gateway, n)
	}
	if now.at != nil {
		x.behind.add(now.gateway, n)
	}
	return true
}

// frontedBy are the services that a waypoint is in front of, sorted.
func (x *index) frontedBy(gateway world.Key) []serviceName {
	return slices.SortedFunc(maps.Keys(x.behind[gateway]), compareNames)
}

// podWaypoint is the waypoint in front of a pod of our own cluster, for connections to its address. One on the host network has none: all that is at its node's address would be behind it.
func (x *index) podWaypoint(p *world.Pod) *mesh.GatewayAddress {
	if p.HostNetwork {
		return nil
	}
	w, _ := x.wishFor(p.Labels, p.Cluster, p.Namespace)
	if !w.wanted() {
		return nil
	}
	at, _, _ := x.bind(w.gateway, p.Namespace, forWorkloads)
	return at
}

// bind finds where a waypoint takes connections for something in a namespace; nil: it does not, and why. If it does, there may be a message all the same.
func (x *index) bind(k world.Key, namespace, purpose string) (at *mesh.GatewayAddress, reason, message string) {
	name := k.Namespace + "/" + k.Name
	g := x.state.Gateways[k]
	if (g == nil || g.Deleting) && purpose == forServices && k == (world.Key{Cluster: x.config.LocalCluster, Namespace: namespace, Name: AutomaticWaypoint}) {
		return nil, ReasonProvisioned, fmt.Sprintf("waypoint %s is being made, and does not take connections yet", name)
	}
	if g == nil || g.Deleting {
		return nil, ReasonWaypointMissing, fmt.Sprintf("label %s: there is no Gateway %s", world.LabelUseWaypoint, name)
	}
	bound, problem := x.binding(g)
	l := x.waypointListener(g, bound)
	if l == nil {
		if problem != "" {
			return nil, ReasonWaypointInvalid, problem
		}
		return nil, ReasonWaypointInvalid, fmt.Sprintf("label %s: Gateway %s is no waypoint with an HBONE listener", world.LabelUseWaypoint, name)
	}
	if serves := cmp.Or(g.WaypointFor, forServices); serves != purpose && serves != forAll {
		return nil, ReasonWaypointForOthers, fmt.Sprintf("Gateway %s is for %q by its label %s", name, serves, world.LabelWaypointFor)
	}
	if !x.admits(g.Key, *l, namespace) {
		return nil, ReasonWaypointNotAllowed, fmt.Sprintf("Gateway %s, listener %s: allowedRoutes.namespaces does not let in namespace %s", name, l.Name, namespace)
	}
	port := uint16(mesh.HBONEPort) // where the node proxy listens for a pod
	if l.Protocol == protocolHBONE {
		port = l.Port
	}
	network, _ := x.network(k.Cluster)
	for _, a := range g.Status {
		switch a.Type {
		case addressIP:
			if addr, err := netip.ParseAddr(a.Value); err == nil && addr.Zone() == "" {
				return &mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: network, Addr: addr.Unmap()}, Port: port}, "", problem
			}
		case addressHostname:
			if a.Value != "" {
				return &mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: k.Namespace, Hostname: a.Value}, Port: port}, "", problem
			}
		}
	}
	return nil, ReasonWaypointNotReady, fmt.Sprintf("Gateway %s has no address", name)
}

// admits says whether a listener of an object (home) lets in what a namespace attaches to it.
func (x *index) admits(home world.Key, l world.Listener, namespace string) bool {
	return x.lets(l.RoutesFrom, l.RouteNamespaces, home, namespace)
}

// lets says whether a namespace is among those that an object (home) names by their whence, and a selector.
func (x *index) lets(from string, selects *world.Selector, home world.Key, namespace string) bool {
	switch from {
	case "", "Same":
		return namespace == home.Namespace
	case "All":
		return true
	case "Selector":
		s, problems := selector(selects, nil)
		return selects != nil && len(problems) == 0 && s.Matches(labels.Set(x.namespaceLabels(home.Cluster, namespace)))
	}
	return false
}

// foldWish notes who asks for which waypoint, so that a Gateway's change finds them again.
func foldWish[K comparable](askers multi[world.Key, K], who K, was, now wish) {
	if was == now {
		return
	}
	if was.wanted() {
		askers.remove(was.gateway, who)
	}
	if now.wanted() {
		askers.add(now.gateway, who)
	}
}

// waypointOf notes all that may be behind a waypoint, and its own pods.
func (t *touched) waypointOf(x *index, gateway world.Key) {
	for n := range x.waypointServices[gateway] {
		t.names.add(n)
	}
	for pod := range x.waypointPods[gateway] {
		t.pods.add(pod)
	}
	for pod := range x.madePods[gateway] {
		t.pods.add(pod)
	}
	if x.automatic(gateway) {
		t.consumersOf(x, gateway.Namespace)
		for n := range x.namesIn[gateway.Namespace] {
			if len(x.routesAt[n]) > 0 {
				t.names.add(n)
			}
		}
	}
	for namespace := range x.waypointNamespaces[gateway] {
		t.everythingIn(x, namespace)
	}
}

// everythingIn notes what a namespace's labels decide for its Services and pods.
func (t *touched) everythingIn(x *index, namespace world.Key) {
	for n := range x.namesIn[namespace.Name] {
		t.names.add(n)
	}
	for pod := range x.podsIn[namespace] {
		t.pods.add(namespace.In(namespace.Name, pod))
	}
}
