// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

var testConfig = world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"}

// generator makes random changes in a small universe, so that objects meet: four clusters (south shares east's network when
// labels so have it), three namespaces, and a few names of everything.
type generator struct{ *rand.Rand }

var (
	someClusters   = []world.Cluster{"east", "west", "north", "south"}
	someNamespaces = []string{"demo", "shop", "isthmus-system"}
	someServices   = []string{"cart", "hello", "stock"}
	somePods       = []string{"a", "b", "c", "d"}
	somePorts      = []uint16{443, 15008, 15021, 20443, 30008}
	someBindings   = []string{"", "", "PROXY/15088", "NONE", "ODD"}
)

func pick[T any](g generator, from []T) T { return from[g.IntN(len(from))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g generator) key(names []string) world.Key {
	return world.Key{Cluster: pick(g, someClusters), Namespace: pick(g, someNamespaces), Name: pick(g, names)}
}

func (g generator) labels() map[string]string {
	out := map[string]string{}
	if g.chance(60) {
		out[world.LabelGlobal] = pick(g, []string{"true", "true", "false"})
	}
	if g.chance(20) {
		out["private"] = "yes"
	}
	if g.chance(15) {
		out[world.LabelUseWaypoint] = pick(g, []string{"gw", "gw2", "none", AutomaticWaypoint})
		if g.chance(30) {
			out[world.LabelUseWaypointNamespace] = pick(g, someNamespaces)
		}
	}
	if g.chance(30) {
		out["app"] = pick(g, someServices)
	}
	return out
}

// network is one of few, so that clusters share them or claim what is not theirs.
func (g generator) network() string {
	return pick(g, []string{"east", "west", "dmz", "dmz", "elsewhere"})
}

// moves changes up to five objects, or the readiness of a pod that was put last, which is what happens most in real clusters.
func (g generator) moves(step int, before []move) []move {
	var out []move
	if g.chance(30) {
		if i := slices.IndexFunc(before, func(m move) bool { return m.ref.Kind == world.KindPod && m.put != nil }); i >= 0 {
			m := before[i+g.IntN(len(before)-i)]
			if p, ok := m.put.(*world.Pod); ok {
				flipped := *p
				flipped.Ready = !p.Ready
				return []move{{step: step, ref: m.ref, put: &flipped}}
			}
		}
	}
	if g.chance(10) {
		if m, ok := g.relabel(before); ok {
			m.step = step
			return []move{m}
		}
	}
	if g.chance(10) {
		if m, ok := g.breakGateway(before); ok {
			m.step = step
			return []move{m}
		}
	}
	for range 1 + g.IntN(5) {
		m := move{step: step}
		o := g.object()
		m.ref = o.Ref()
		if !g.chance(25) {
			m.put = o
		}
		out = append(out, m)
	}
	return out
}

// relabel has a pod, Gateway or namespace that was put before name another network, or none.
func (g generator) relabel(before []move) (move, bool) {
	if len(before) == 0 {
		return move{}, false
	}
	label := func(was map[string]string) map[string]string {
		now := maps.Clone(was)
		delete(now, world.LabelNetwork)
		if g.chance(70) {
			if now == nil {
				now = map[string]string{}
			}
			now[world.LabelNetwork] = g.network()
		}
		return now
	}
	for range 10 {
		m := before[g.IntN(len(before))]
		switch o := m.put.(type) {
		case *world.Pod:
			now := *o
			now.Labels, m.put = label(o.Labels), &now
			return m, true
		case *world.Namespace:
			now := *o
			now.Labels, m.put = label(o.Labels), &now
			return m, true
		case *world.Gateway:
			now := *o
			now.Network, m.put = pick(g, []string{"", g.network()}), &now
			return m, true
		}
	}
	return move{}, false
}

func (g generator) object() world.Object {
	switch n := g.IntN(100); {
	case n < 22:
		return g.pod()
	case n < 44:
		return g.slice()
	case n < 62:
		return g.service()
	case n < 70:
		return g.namespace()
	case n < 72:
		return &world.Node{Key: world.Key{Cluster: pick(g, someClusters), Name: pick(g, []string{"n1", "n2"})}, Locality: mesh.Locality{Region: pick(g, []string{"", "eu", "us"}), Zone: pick(g, []string{"", "1"}), Subzone: pick(g, []string{"", "a"})}, Addresses: pick(g, [][]netip.Addr{nil, {netip.MustParseAddr("192.0.2.1")}, {netip.MustParseAddr("192.0.2.2")}})}
	case n < 80:
		gateway := g.gateway()
		if gateway.Cluster != testConfig.LocalCluster && g.chance(20) {
			gateway.Name = AutomaticWaypoint
		}
		return gateway
	case n < 84:
		return &world.GatewayClass{Key: world.Key{Cluster: pick(g, someClusters), Name: pick(g, []string{"eastwest", "waypoint", "other"})},
			Controller: pick(g, []string{ControllerName, ControllerName, "example.com/other"}), HasParameters: g.chance(10), InboundBinding: pick(g, someBindings)}
	case n < 89:
		return g.scope()
	case n < 92:
		return g.remoteCluster()
	case n < 93:
		return g.policy()
	case n < 94:
		return g.peer()
	case n < 95:
		o := pick(g, []world.Overlay{{Missing: true}, {Problem: "odd"}, {ServiceType: typeNodePort}, {ServiceType: typeClusterIP, ExternalTrafficPolicy: "Local"}, {Replicas: 3}})
		o.Key = g.key([]string{"overlay"})
		return &o
	case n < 97:
		return g.routing()
	default:
		s := serviceName{pick(g, someNamespaces), pick(g, someServices)}
		x := newIndex(testConfig)
		return world.NewVIP(x.serviceKey(s), netip.AddrFrom4([4]byte{240, 240, 0, byte(g.IntN(3))}), pick(g, []netip.Addr{{}, netip.MustParseAddr("fd6d:6573:68f0::1")}))
	}
}

// address is one of few, so that they clash; a few are of the newer family.
func (g generator) address() netip.Addr {
	if g.chance(15) {
		return g.address6()
	}
	return g.address4()
}

func (g generator) address4() netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(g.IntN(2)), 0, byte(1 + g.IntN(20))})
}

func (g generator) address6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(1 + g.IntN(4))})
}

// addresses are one, or one of each family in either order.
func (g generator) addresses() []netip.Addr {
	switch n := g.IntN(10); {
	case n < 2:
		return []netip.Addr{g.address4(), g.address6()}
	case n < 3:
		return []netip.Addr{g.address6(), g.address4()}
	}
	return []netip.Addr{g.address()}
}

func (g generator) pod() *world.Pod {
	p := &world.Pod{
		Key: g.key(somePods), Labels: g.labels(), Node: pick(g, []string{"n1", "n2"}), ServiceAccount: pick(g, []string{"default", "cart", "hello"}),
		HostNetwork: g.chance(5), Ready: g.chance(70), Deleting: g.chance(10), Captured: g.chance(80), WorkloadName: "w",
	}
	if g.chance(15) {
		p.Namespace, p.NodeProxy = pick(g, []string{testConfig.SystemNamespace, testConfig.SystemNamespace, p.Namespace}), world.NodeProxy(g.IntN(3))
	}
	if g.chance(95) {
		p.Addresses = g.addresses()
	}
	if g.chance(20) {
		p.Labels[world.LabelNetwork] = g.network()
	}
	if g.chance(15) {
		p.Labels[LabelGatewayName] = pick(g, []string{"gw", "gw2"})
		p.WorkloadName, p.Labels[LabelManagedBy] = pick(g, []string{"w", p.Labels[LabelGatewayName]}), ManagedBy
	}
	return p
}

func (g generator) slice() *world.EndpointSlice {
	service := pick(g, append([]string{"gw", "gw2"}, someServices...)) // gateways have pods, too
	out := &world.EndpointSlice{Key: g.key([]string{service + "-1", service + "-2", "odd"}), Service: service}
	for _, p := range []world.EndpointPort{{Name: "http", Port: 8080}, {Name: "grpc", Port: 9090}, {Name: "", Port: 8081}} {
		if g.chance(60) {
			p.Port += uint16(g.IntN(2))
			out.Ports = append(out.Ports, p)
		}
	}
	if g.chance(50) {
		out.UDPPorts = []world.EndpointPort{{Name: pick(g, []string{"dns", "dns", "dns", "odd"}), Port: 5353}}
	}
	for range g.IntN(4) {
		if g.chance(80) {
			out.Endpoints = append(out.Endpoints, world.Endpoint{Pod: pick(g, somePods)})
		} else {
			out.Endpoints = append(out.Endpoints, world.Endpoint{Addresses: g.addresses(), Node: pick(g, []string{"", "n1"}), Ready: g.chance(70)})
		}
	}
	return out
}

func (g generator) service() *world.Service {
	s := &world.Service{
		Key: g.key(someServices), Labels: g.labels(),
		Headless: g.chance(10), ExternalName: g.chance(5), NodeLocal: g.chance(10), NotReady: g.chance(10),
		Families:     pick(g, []mesh.Families{mesh.FamiliesAny, mesh.FamiliesIPv4, mesh.FamiliesIPv6, mesh.FamiliesDual}),
		Distribution: pick(g, []string{"", "", preferClose, preferSameZone, preferSameNode, "Sideways"}),
	}
	for _, p := range []world.ServicePort{{Name: "http", Port: 80, Target: 8080, App: mesh.AppHTTP11}, {Name: "grpc", Port: 81}, {Port: 82, Target: 8081}} {
		if g.chance(60) {
			if g.chance(10) {
				p.App = mesh.AppTCP
			}
			s.Ports = append(s.Ports, p)
		}
	}
	if g.chance(50) {
		s.UDPPorts = []world.ServicePort{{Name: "dns", Port: pick(g, []uint16{80, 80, 53}), Target: 5353}}
	}
	if !s.Headless {
		s.Addresses = g.addresses()
	}
	if g.chance(20) { // it may be a gateway's
		s.Name = pick(g, []string{"gw", "gw2"})
		if g.chance(70) {
			s.Labels[LabelGatewayName] = s.Name
		}
		if g.chance(60) { // of the Gateway that is there, or of an earlier one
			s.Owner, s.OwnerGateway = pick(g, []string{"u", "u0"}), s.Name
			s.Labels[LabelManagedBy] = ManagedBy
		}
		s.Deleting = g.chance(10)
		s.Ingress = []string{fmt.Sprintf("203.0.113.%d", g.IntN(3))}
	}
	kind := pick(g, []world.Service{{Type: typeLoadBalancer}, {Type: typeClusterIP}, {Type: typeNodePort}, {Type: typeLoadBalancer}, {Type: typeClusterIP}, {Type: typeNodePort, AtNodes: somePorts}})
	if s.Type, s.AtNodes = kind.Type, kind.AtNodes; s.Type == typeNodePort {
		s.Ingress = nil
	}
	return s
}

func (g generator) namespace() *world.Namespace {
	n := &world.Namespace{Key: world.Key{Cluster: pick(g, someClusters), Name: pick(g, someNamespaces)}, Labels: g.labels()}
	if n.Name == testConfig.SystemNamespace && g.chance(85) {
		network := string(n.Cluster)
		if n.Cluster == "south" && g.chance(70) {
			network = "east"
		}
		n.Labels[world.LabelNetwork] = network
	} else if g.chance(20) {
		n.Labels[world.LabelNetwork] = g.network()
	}
	if g.chance(70) {
		n.Labels[world.LabelEastWestGateways] = pick(g, []string{"true", "true", "true", "yes"})
	}
	if g.chance(10) {
		n.Distribution = preferClose
	}
	return n
}

func (g generator) scope() *world.ServiceScope {
	out := &world.ServiceScope{Key: world.Key{Cluster: pick(g, someClusters), Name: pick(g, []string{"default", "other"})}, Generation: int64(g.IntN(3)), Priority: int32(g.IntN(2))}
	for range 1 + g.IntN(2) {
		e := world.ScopeEntry{Scope: pick(g, []string{"GLOBAL", "GLOBAL", "GLOBAL", "LOCAL", "ODD"})}
		if g.chance(80) {
			e.Services = &world.Selector{Requirements: []world.Requirement{{Key: world.LabelGlobal, Operator: pick(g, []string{"In", "In", "In", "NotIn", "Odd"}), Values: []string{"true"}}}}
		}
		if g.chance(20) {
			e.Namespaces = &world.Selector{MatchLabels: map[string]string{"private": "yes"}}
		}
		out.Entries = append(out.Entries, e)
	}
	return out
}

func (g generator) remoteCluster() *world.RemoteCluster {
	out := &world.RemoteCluster{
		Key: world.Key{Cluster: "east", Name: pick(g, []string{"west", "north", "south", "second"})}, ID: pick(g, someClusters[1:]), Created: int64(g.IntN(3)),
		Network: pick(g, []string{"", "", "", "west", "elsewhere", "east"}), MaxServices: pick(g, []int{0, 1, 2, 100}), MaxEndpoints: pick(g, []int{1, 2, 100, 100}),
	}
	if g.chance(25) {
		out.TrustDomain = pick(g, []string{"far.example", "far.example", "cluster.local", "NOT ONE"})
	}
	for range g.IntN(3) {
		if n := g.network(); !slices.Contains(out.Networks, n) {
			out.Networks = append(out.Networks, n)
		}
	}
	if g.chance(20) {
		out.Namespaces = []string{"demo"}
	}
	if g.chance(20) {
		out.PodCIDRs = pick(g, [][]netip.Prefix{{netip.MustParsePrefix("10.0.0.0/16")}, {netip.MustParsePrefix("10.1.0.0/28"), netip.MustParsePrefix("fd00::/16")}, {{}}})
	}
	if g.chance(20) {
		out.Identities = []string{pick(g, []string{"*/cart", "demo/*", "*/*"})}
	}
	return out
}

// foundation is what makes it likely that pods are reached through gateways: each cluster names its network and scope, our own has pods on a second
// one and gateways to both, for which Services were made, one of them at nodes' ports, and another cluster may be on that one, too.
func (g generator) foundation() []move {
	var out []move
	put := func(o world.Object) { out = append(out, move{ref: o.Ref(), put: o}) }
	for _, c := range someClusters {
		put(&world.Namespace{Key: world.Key{Cluster: c, Name: testConfig.SystemNamespace}, Labels: map[string]string{world.LabelNetwork: string(c)}})
		put(&world.Namespace{Key: world.Key{Cluster: c, Name: "demo"}})
		put(&world.Namespace{Key: world.Key{Cluster: c, Name: "shop"}, Labels: map[string]string{world.LabelEastWestGateways: "true"}})
		put(&world.ServiceScope{Key: world.Key{Cluster: c, Name: "default"}, Entries: []world.ScopeEntry{{Scope: "GLOBAL"}}})
		put(&world.Service{Key: world.Key{Cluster: c, Namespace: "demo", Name: "cart"}, Ports: []world.ServicePort{{Name: "http", Port: 80, Target: 8080}}})
		put(&world.EndpointSlice{Key: world.Key{Cluster: c, Namespace: "demo", Name: "odd"}, Service: "cart", Ports: []world.EndpointPort{{Name: "http", Port: 8080}},
			Endpoints: []world.Endpoint{{Pod: "a"}, {Pod: "b"}, {Pod: "c"}}})
		for _, o := range []*world.Gateway{
			{Key: world.Key{Cluster: c, Namespace: testConfig.SystemNamespace, Name: "gw"}},
			{Key: world.Key{Cluster: c, Namespace: "shop", Name: "gw"}},
			{Key: world.Key{Cluster: c, Namespace: "shop", Name: "gw2"}, Network: "dmz"},
		} {
			o.Class, o.Listeners = ClassEastWest, []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE, HasTLS: true, TLSMode: tlsTerminate}}
			o.Status = []world.GatewayAddress{{Type: addressIP, Value: fmt.Sprintf("203.0.113.%d", 10+g.IntN(4))}}
			put(o)
			made := &world.Service{Key: o.Key, Labels: map[string]string{LabelManagedBy: ManagedBy, LabelGatewayName: o.Name}, Ports: []world.ServicePort{{Name: "mesh", Port: 15008}}}
			if o.Network != "" {
				made.Type, made.AtNodes = typeNodePort, somePorts
			}
			put(made)
		}
		if c != testConfig.LocalCluster {
			put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: string(c)}, ID: c, Networks: []string{"dmz"}, MaxServices: 100, MaxEndpoints: 100})
		}
	}
	put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
	put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "stock"}, Labels: map[string]string{world.LabelNetwork: "dmz"}})
	for _, name := range somePods[:3] {
		p := g.pod()
		p.Key, p.Captured, p.HostNetwork, p.Addresses = world.Key{Cluster: "east", Namespace: "demo", Name: name}, true, false, []netip.Addr{g.address4()}
		p.Labels[world.LabelNetwork] = "dmz"
		put(p)
	}
	put(&world.EndpointSlice{Key: world.Key{Cluster: "east", Namespace: "shop", Name: "gw2-1"}, Service: "gw2", Ports: []world.EndpointPort{{Name: "mesh", Port: 15008}}, Endpoints: []world.Endpoint{{Pod: "a"}, {Pod: "b"}}})
	for i, node := range []string{"n1", "n2"} {
		put(&world.Node{Key: world.Key{Cluster: "east", Name: node}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}})
		p := g.pod()
		p.Key, p.Node = world.Key{Cluster: "east", Namespace: "shop", Name: somePods[i]}, node
		put(p)
	}
	return out
}
