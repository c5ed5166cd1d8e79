// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// index is a State with the ways through it. One goroutine owns it.
type index struct {
	config world.Config
	state  *world.State

	slicesNaming few[world.Key, world.Key]         // pod → slices
	slicesOf     few[world.Key, world.Key]         // service → slices
	slicesOn     multi[world.Key, world.Key]       // node → slices with endpoints there that are no pods
	podsOn       multi[world.Key, podName]         // node → pods
	proxiesOn    multi[world.Key, world.Key]       // node → its proxies
	podsIn       multi[world.Key, string]          // namespace → names of pods
	namesIn      multi[string, serviceName]        // namespace's name → services, in any cluster
	clustersOf   multi[serviceName, world.Cluster] // service → clusters that have it
	namesOf      multi[world.Cluster, serviceName] // cluster → services
	ingress      multi[string, world.Key]          // load balancer's address → local services
	fronts       multi[world.Key, world.Key]       // service → Gateways that it leads to
	gatesIn      multi[world.Cluster, world.Key]   // cluster → Gateways
	policiesIn   multi[string, world.Key]          // namespace's name → local AuthorizationPolicies
	peersIn      multi[string, world.Key]          // namespace's name → local PeerAuthentications
	guardsOf     multi[serviceName, world.Key]     // local service → AuthorizationPolicies that target it
	farPodsAt    few[netip.Addr, world.Key]        // address → pods of other clusters
	vipsAt       few[netip.Addr, world.Key]        // address → local services
	apiServers   few[netip.Addr, world.Key]        // address → slices that say that our own cluster's API server is there
	// By waypoint: what asks for it with labels of its own, and the namespaces that do. Of other clusters pods do not count.
	waypointServices   multi[world.Key, serviceName]
	waypointPods       multi[world.Key, world.Key]
	waypointNamespaces multi[world.Key, world.Key]
	madePods           multi[world.Key, world.Key]   // Gateway of our own cluster → pods that were made for it
	behind             multi[world.Key, serviceName] // waypoint → services that are behind it
	takenIn            multi[world.Key, serviceName] // waypoint → those, and others that will be as soon as it has an address
	consumed           multi[world.Key, serviceName] // waypoint → services that it is to be in front of for its own namespace's callers
	members            map[world.Key]*members        // service → pods
	rules              map[world.Cluster][]rules     // in the order in which they are asked
	inForce            map[world.Cluster][]rules     // those of them that are asked at all: of other clusters the first few
	limits             map[world.Cluster]*world.RemoteCluster
	networks           map[world.Cluster]*networkClaims // what pods' labels say
	ownNetworks        map[world.Cluster]string         // what the labels of system namespaces say
	namedNetworks      map[world.Key]string             // what those of other namespaces say
	namedBy            multi[string, world.Key]         // network → namespaces of our own cluster whose label names it, but for the system namespace
	gatesOn            multi[string, world.Key]         // network → Gateways of our own system namespace whose label names it
	further            set[string]                      // networks that our own cluster has by these labels
	imports            map[world.Cluster]*imports
	burdens            map[serviceName]burden // of the services in guardsOf
	crowded            crowdedOut
	gateLoads          gateLoads
	compiled           map[world.Key]compiled     // AuthorizationPolicies that were asked for since they changed
	serving            map[mesh.GatewayKey]string // local Gateways that are served, or were and go on → class
	unprovable         set[world.Cluster]         // remote clusters whose trust domain is none
	waysIn             map[world.Cluster]*waysIn  // of clusters with any
	doors              []door                     // other networks' gateways, sorted
	looked             int                        // how many Gateways, addresses of theirs, and endpoints and services for them, were looked at
	crowdedWays        set[world.Key]             // our own Gateways that may not be ways in because there are too many
	claims             claims                     // addresses that other clusters say are theirs
	answerOf           func(serviceName) *answer  // what was worked out last; nil: nothing

	// HTTPRoutes and GRPCRoutes, all of our own cluster.
	routesTo      multi[world.Key, world.ObjectRef]   // Service, which may not be there → routes that refer to it
	routesInto    multi[string, world.ObjectRef]      // namespace's name → routes of others that refer to something in it
	routesFrom    multi[string, world.ObjectRef]      // namespace's name → routes in it
	routesAt      multi[serviceName, world.ObjectRef] // Service, which may not be there → routes of any kind that have it as a parent
	attached      map[serviceName]*attachments        // of the Services that were asked for since they or those routes changed
	streams       streams                             // those that look at connections or datagrams only
	setsFor       multi[world.Key, world.Key]         // Gateway, which may not be there → ListenerSets for it
	setsIn        multi[string, world.Key]            // namespace's name → ListenerSets in it
	grantsIn      multi[string, world.Key]            // namespace's name → ReferenceGrants in it
	policiesFor   multi[world.Key, world.Key]         // Service, which may not be there → BackendTLSPolicies for it
	routes        map[world.ObjectRef]*compiledRoute  // those that were asked for since they changed
	applied       map[world.ObjectRef]*applicant      // routes of any kind that did not change since, nor the labels of their namespaces
	grounds       map[world.Key]ground                // by Gateway, of the last translation
	groundsSeen   int                                 // how often these were others, or other ListenerSets were there
	standings     []standingAt                        // room for those of one route
	servicesAsked int                                 // of how many Services it was asked what becomes of a route there
	targeted      map[serviceName]int                 // Services of BackendTLSPolicies that routes refer to, of the last translation, by number
	targetsSeen   int                                 // how often these were others

	// How many Secrets Gateways refer to, as last worked out, and how many are read at most.
	demand     *secretDemand
	maxSecrets int
	memory     memory
	judged     [2]map[world.Key]*judged // our Gateways, of the last translation: looked at as if all Secrets were read, and again with shares
	judgings   int                      // how often one was judged
	referable  int                      // how often Secrets, ConfigMaps or ReferenceGrants were others
	lettings   map[world.Key]*letting   // ListenerSets by Gateway, which may not be there, as long as they are the same

	// What waypoints are not told of, as last worked out, and how much one is told at most.
	leftOut  map[left]struct{}
	leftSeen int // how often that was something else
	maxLoad  int
	maxCAs   int // bytes of CA certificates at one Gateway

	maxRoutes int // bytes of routes at one Gateway
	maxLooks  int // listeners of one Gateway at which the routes of one namespace are looked for
	maxWaysIn int // Gateways that lead into one network of a cluster, and addresses of theirs
	maxBehind int // endpoints and slices of another cluster's Service that are looked at
}

func newIndex(c world.Config) *index {
	return &index{
		config: c, state: world.NewState(), demand: newSecretDemand(0), maxSecrets: MaxSecrets, maxLoad: maxWaypointLoad, maxCAs: maxGatewayCAs, maxRoutes: maxGatewayRoutes, maxLooks: maxLooks, maxWaysIn: maxWaysIn, maxBehind: maxBehind, crowded: crowdedOut{most: maxGuardLoad},
		gateLoads:    gateLoads{most: maxGatePolicies, sizes: map[world.Key]int{}, of: map[string]int{}},
		slicesNaming: few[world.Key, world.Key]{}, slicesOf: few[world.Key, world.Key]{}, slicesOn: multi[world.Key, world.Key]{},
		podsOn: multi[world.Key, podName]{}, proxiesOn: multi[world.Key, world.Key]{}, podsIn: multi[world.Key, string]{}, namesIn: multi[string, serviceName]{},
		clustersOf: multi[serviceName, world.Cluster]{}, namesOf: multi[world.Cluster, serviceName]{}, ingress: multi[string, world.Key]{}, fronts: multi[world.Key, world.Key]{}, gatesIn: multi[world.Cluster, world.Key]{}, waysIn: map[world.Cluster]*waysIn{},
		farPodsAt: few[netip.Addr, world.Key]{}, vipsAt: few[netip.Addr, world.Key]{}, apiServers: few[netip.Addr, world.Key]{},
		policiesIn: multi[string, world.Key]{}, peersIn: multi[string, world.Key]{}, guardsOf: multi[serviceName, world.Key]{}, burdens: map[serviceName]burden{}, compiled: map[world.Key]compiled{},
		waypointServices: multi[world.Key, serviceName]{}, waypointPods: multi[world.Key, world.Key]{}, waypointNamespaces: multi[world.Key, world.Key]{}, madePods: multi[world.Key, world.Key]{}, behind: multi[world.Key, serviceName]{}, takenIn: multi[world.Key, serviceName]{}, consumed: multi[world.Key, serviceName]{},
		members: map[world.Key]*members{}, rules: map[world.Cluster][]rules{}, inForce: map[world.Cluster][]rules{},
		limits: map[world.Cluster]*world.RemoteCluster{}, imports: map[world.Cluster]*imports{}, networks: map[world.Cluster]*networkClaims{}, ownNetworks: map[world.Cluster]string{}, namedNetworks: map[world.Key]string{}, namedBy: multi[string, world.Key]{}, gatesOn: multi[string, world.Key]{}, further: set[string]{}, unprovable: set[world.Cluster]{}, claims: newClaims(),
		routesTo: multi[world.Key, world.ObjectRef]{}, routesInto: multi[string, world.ObjectRef]{}, routesFrom: multi[string, world.ObjectRef]{}, streams: newStreams(),
		policiesFor: multi[world.Key, world.Key]{}, setsFor: multi[world.Key, world.Key]{}, setsIn: multi[string, world.Key]{}, grantsIn: multi[string, world.Key]{}, routesAt: multi[serviceName, world.ObjectRef]{}, attached: map[serviceName]*attachments{}, answerOf: func(serviceName) *answer { return nil }, routes: map[world.ObjectRef]*compiledRoute{}, applied: map[world.ObjectRef]*applicant{}, lettings: map[world.Key]*letting{},
	}
}

// hostname is the full name of a Kubernetes service.
func (x *index) hostname(n serviceName) string {
	return n.Name + "." + n.Namespace + ".svc." + x.config.ClusterDomain
}

// serviceKey is the mesh's key of a service.
func (x *index) serviceKey(n serviceName) mesh.ServiceKey {
	return mesh.ServiceKey{Namespace: n.Namespace, Hostname: x.hostname(n)}
}

func (x *index) namespaceLabels(c world.Cluster, name string) map[string]string {
	if ns := x.state.Namespaces[world.Key{Cluster: c, Name: name}]; ns != nil {
		return ns.Labels
	}
	return nil
}

// decideIn asks the rules of one cluster about another one's service (or its own).
func (x *index) decideIn(asked world.Cluster, s *world.Service) decision {
	return decide(x.inForce[asked], s.Labels, x.namespaceLabels(s.Cluster, s.Namespace))
}

// fold applies a delta to the state and all ways through it, and notes what it touches.
func (x *index) fold(d world.Delta, t *touched) {
	foldInto(x.state.Namespaces, d.Namespaces, func(k world.Key, was, now *world.Namespace) { x.foldNamespace(k, was, now, t) })
	foldInto(x.state.RemoteClusters, d.RemoteClusters, func(k world.Key, was, now *world.RemoteCluster) { x.foldRemoteCluster(was, now, t) })
	foldInto(x.state.ServiceScopes, d.ServiceScopes, func(k world.Key, was, now *world.ServiceScope) { x.foldScope(k.Cluster, was, now, t) })
	foldInto(x.state.Nodes, d.Nodes, func(k world.Key, was, now *world.Node) { x.foldNode(k, t) })
	foldInto(x.state.Pods, d.Pods, func(k world.Key, was, now *world.Pod) { x.foldPod(k, was, now, t) })
	foldInto(x.state.Services, d.Services, func(k world.Key, was, now *world.Service) { x.foldService(k, was, now, t) })
	foldInto(x.state.EndpointSlices, d.EndpointSlices, func(k world.Key, was, now *world.EndpointSlice) { x.foldSlice(k, was, now, t) })
	foldInto(x.state.GatewayClasses, d.GatewayClasses, func(k world.Key, was, now *world.GatewayClass) {
		t.gatesOf(x, k.Cluster)
		if k.Cluster == x.config.LocalCluster {
			t.allTargeting(x)
			t.classOf(x, k)
		}
	})
	foldInto(x.state.Gateways, d.Gateways, func(k world.Key, was, now *world.Gateway) {
		t.gatesOf(x, k.Cluster)
		x.gatesIn.put(k.Cluster, k, now != nil)
		delete(x.lettings, k)
		x.foldFront(k, was, now)
		x.foldGateNetwork(k, was, now)
		if k.Cluster == x.config.LocalCluster {
			t.waypointOf(x, k)
			t.targeting(x, k.Namespace)
		} else {
			t.farWaypointOf(x, k)
		}
	})
	foldInto(x.state.AuthorizationPolicies, d.AuthorizationPolicies, func(k world.Key, was, now *world.AuthorizationPolicy) {
		x.foldPolicy(k, x.policiesIn, now != nil, was != nil && len(was.Selector) > 0 || now != nil && len(now.Selector) > 0, t)
		x.foldGuard(k, was, now, t)
		x.foldGateLoad(k, now)
	})
	foldInto(x.state.PeerAuthentications, d.PeerAuthentications, func(k world.Key, was, now *world.PeerAuthentication) {
		x.foldPolicy(k, x.peersIn, now != nil, true, t)
		t.peers = true
	})
	foldInto(x.state.Overlays, d.Overlays, func(k world.Key, was, now *world.Overlay) { x.foldOverlay(k, t) })
	foldInto(x.state.ListenerSets, d.ListenerSets, func(k world.Key, was, now *world.ListenerSet) { x.foldListenerSet(k, was, now, t) })
	foldInto(x.state.HTTPRoutes, d.HTTPRoutes, func(k world.Key, was, now *world.HTTPRoute) {
		x.foldRoute(world.ObjectRef{Kind: world.KindHTTPRoute, Key: k}, was, now, t)
	})
	foldInto(x.state.GRPCRoutes, d.GRPCRoutes, func(k world.Key, was, now *world.GRPCRoute) {
		x.foldRoute(world.ObjectRef{Kind: world.KindGRPCRoute, Key: k}, likeHTTP(was), likeHTTP(now), t)
	})
	foldInto(x.state.TLSRoutes, d.TLSRoutes, func(k world.Key, was, now *world.TLSRoute) { x.foldTLSRoute(k, was, now, t) })
	foldInto(x.state.TCPRoutes, d.TCPRoutes, func(k world.Key, was, now *world.TCPRoute) {
		x.foldStream(world.ObjectRef{Kind: world.KindTCPRoute, Key: k}, tcpStream(was), tcpStream(now), t)
	})
	foldInto(x.state.UDPRoutes, d.UDPRoutes, func(k world.Key, was, now *world.UDPRoute) {
		x.foldStream(world.ObjectRef{Kind: world.KindUDPRoute, Key: k}, udpStream(was), udpStream(now), t)
	})
	foldInto(x.state.ReferenceGrants, d.ReferenceGrants, func(k world.Key, was, now *world.ReferenceGrant) { x.foldGrant(k, now, t) })
	foldInto(x.state.Secrets, d.Secrets, func(k world.Key, was, now *world.Secret) { x.referable, t.routes = x.referable+1, true })
	foldInto(x.state.Anchors, d.Anchors, func(k world.Key, was, now *world.Anchors) { x.referable, t.routes = x.referable+1, true })
	foldInto(x.state.BackendTLSPolicies, d.BackendTLSPolicies, func(k world.Key, was, now *world.BackendTLSPolicy) { x.foldTLSPolicy(k, was, now, t) })
	foldInto(x.state.VIPs, d.VIPs, func(k world.Key, was, now *world.VIP) {
		if n, ok := x.nameOfHost(k); ok {
			t.names.add(n)
		}
	})
	x.settleFurther(t)
	x.settleCrowd(t)
	x.settleGates(t)
}

// foldInto applies one kind's changes; what is equal is no change.
func foldInto[V any](into, changes map[world.Key]*V, each func(k world.Key, was, now *V)) {
	fresh := len(into) == 0 // so that there is nothing to find
	for k, now := range changes {
		var was *V
		if !fresh {
			was = into[k]
		}
		if was == now || was != nil && now != nil && reflect.DeepEqual(was, now) {
			continue
		}
		if now == nil {
			delete(into, k)
		} else {
			into[k] = now
		}
		each(k, was, now)
	}
}

// nameOfHost reads a VIP's key back into the service's name.
func (x *index) nameOfHost(k world.Key) (serviceName, bool) {
	suffix := "." + k.Namespace + ".svc." + x.config.ClusterDomain
	if n := len(k.Name) - len(suffix); n > 0 && k.Name[n:] == suffix {
		return serviceName{k.Namespace, k.Name[:n]}, true
	}
	return serviceName{}, false
}

func (x *index) foldNamespace(k world.Key, was, now *world.Namespace, t *touched) {
	var before, after wish
	var network, networkNow string
	if was != nil {
		before, network = wishOf(was.Labels, k.Cluster, k.Name), was.Labels[world.LabelNetwork]
	}
	if now != nil {
		after, networkNow = wishOf(now.Labels, k.Cluster, k.Name), now.Labels[world.LabelNetwork]
	}
	x.foldNetworkLabel(k, networkNow)
	if leadsInByLabel(was) != leadsInByLabel(now) {
		t.gatesOf(x, k.Cluster)
	}
	foldWish(x.waypointNamespaces, k, before, after)
	if k.Cluster == x.config.LocalCluster {
		t.consumersOf(x, k.Name)
		t.everythingIn(x, k) // its labels may name a waypoint, or be what a waypoint lets in
		for _, refs := range []set[world.ObjectRef]{x.routesFrom[k.Name], x.streams.from[k.Name]} {
			for ref := range refs {
				delete(x.applied, ref) // listeners may let in its routes by its labels
			}
		}
		for of := range x.setsIn[k.Name] {
			delete(x.lettings, x.state.ListenerSets[of].Gateway) // which may let it in by these, too
		}
		t.routes = t.routes || len(x.routesFrom[k.Name])+len(x.streams.from[k.Name])+len(x.setsIn[k.Name]) > 0
	}
	for n := range x.namesIn[k.Name] {
		t.names.add(n)
	}
	x.foldNamespaceNetwork(k, network, networkNow, t)
}

func (x *index) foldRemoteCluster(was, now *world.RemoteCluster, t *touched) {
	for _, r := range []*world.RemoteCluster{was, now} {
		if r == nil {
			continue
		}
		before := x.linked(r.ID)
		delete(x.limits, r.ID)
		for _, other := range x.state.RemoteClusters {
			if other.ID == r.ID && other.Cluster == x.config.LocalCluster && (x.limits[r.ID] == nil || other.Name < x.limits[r.ID].Name) {
				x.limits[r.ID] = other
			}
		}
		if x.linked(r.ID) != before {
			t.rivalsOf(x, r.ID)
		}
		x.foldTrust(r.ID)
		t.networkOf(x, r.ID)
	}
}

func (x *index) foldService(k world.Key, was, now *world.Service, t *touched) {
	n := nameOf(k)
	t.names.add(n)
	delete(x.attached, n)
	if k.Cluster != x.config.LocalCluster {
		t.clusters.add(k.Cluster)
	}
	if was == nil {
		x.clustersOf.add(n, k.Cluster)
		x.namesOf.add(k.Cluster, n)
		x.namesIn.add(n.Namespace, n)
	}
	if now == nil {
		x.clustersOf.remove(n, k.Cluster)
		x.namesOf.remove(k.Cluster, n)
		if len(x.clustersOf[n]) == 0 {
			x.namesIn.remove(n.Namespace, n)
		}
	}
	var wished, wishes wish
	if was != nil {
		wished = wishOf(was.Labels, k.Cluster, k.Namespace)
	}
	if now != nil {
		wishes = wishOf(now.Labels, k.Cluster, k.Namespace)
	}
	foldWish(x.waypointServices, n, wished, wishes)
	if k.Cluster == x.config.LocalCluster {
		var before, after []string
		if was != nil {
			before = was.Ingress
			for _, a := range was.Addresses {
				x.vipsAt.remove(a, k)
				t.claimants(x, k.Cluster, a)
			}
		}
		if now != nil {
			after = now.Ingress
			for _, a := range now.Addresses {
				x.vipsAt.add(a, k)
				t.claimants(x, k.Cluster, a)
			}
		}
		for _, a := range before {
			x.ingress.remove(a, k)
			t.claimantsOf(x, k.Cluster, a)
		}
		for _, a := range after {
			x.ingress.add(a, k)
			t.claimantsOf(x, k.Cluster, a)
		}
		if !slices.Equal(before, after) {
			t.gatesOf(x, k.Cluster)
		}
	}
	if gates := x.fronts[k]; len(gates) > 0 {
		t.gatesOf(x, k.Cluster)
		if k.Cluster == x.config.LocalCluster && madeFor(was) != madeFor(now) { // which may say who governs a waypoint
			for g := range gates {
				t.waypointOf(x, g)
			}
		}
	}
	if k.Cluster == x.config.LocalCluster {
		x.foldBackend(k, was, now, t)
	}
	if was == nil || now == nil || usable(was) != usable(now) || !slices.Equal(was.Ports, now.Ports) {
		t.endpointsOf(x, k)
	}
}

func (x *index) foldPolicy(k world.Key, in multi[string, world.Key], there, selects bool, t *touched) {
	if k.Cluster != x.config.LocalCluster {
		return // policies guard the cluster that they are in
	}
	if there {
		in.add(k.Namespace, k)
	} else {
		in.remove(k.Namespace, k)
	}
	t.policies.add(k)
	if !selects {
		return
	}
	for namespace, pods := range x.podsIn {
		if namespace.Cluster == x.config.LocalCluster && (namespace.Name == k.Namespace || k.Namespace == x.config.SystemNamespace) {
			for p := range pods {
				t.pods.add(namespace.In(namespace.Name, p))
			}
		}
	}
}
