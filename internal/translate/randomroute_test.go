// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

var someSecrets, someSets = []string{"cert", "other"}, []string{"set", "set2"}

// routing is a route, or what one or a listener refers to.
func (g generator) routing() world.Object {
	switch n := g.IntN(16); {
	case n < 2:
		return g.listenerSet()
	case n < 6:
		return g.route()
	case n < 9:
		return g.grpcRoute()
	case n < 12:
		return pick(g, []func() world.Object{
			func() world.Object { return g.tlsRoute() },
			func() world.Object { return &world.TCPRoute{StreamRoute: g.streamRoute()} },
			func() world.Object { return &world.UDPRoute{StreamRoute: g.streamRoute()} },
		})()
	case n < 14:
		return g.grant()
	default:
		out := &world.Secret{Key: world.Key{Cluster: "east", Namespace: pick(g, someNamespaces), Name: pick(g, someSecrets)}, Chain: "chain", PrivateKey: "key", Anchors: "CAs"}
		if g.chance(30) {
			out.Chain, out.PrivateKey, out.Problem, out.Anchors, out.AnchorsProblem = "", "", "it is odd", "", "it is odd"
		}
		return out
	}
}

func (g generator) listenerSet() *world.ListenerSet {
	out := &world.ListenerSet{
		Key: world.Key{Cluster: "east", Namespace: pick(g, someNamespaces), Name: pick(g, someSets)}, Generation: int64(g.IntN(3)), Created: int64(g.IntN(3)),
		Listeners: g.gateway().Listeners,
	}
	if g.chance(95) {
		out.Gateway = out.In(pick(g, someNamespaces), pick(g, []string{"gw", "gw2"}))
	}
	g.attachable(out.Listeners)
	if g.chance(50) { // one that takes routes, for a Gateway that is there most of the time
		out.Key.Namespace, out.Name, out.Gateway = "shop", someSets[0], out.In("shop", "gw")
		out.Listeners = append(out.Listeners[:1], world.Listener{Name: "l1", Port: pick(g, []uint16{81, 443}), Protocol: pick(g, []string{protocolHTTP, protocolTLS}), HasTLS: true, TLSMode: tlsPassthrough, RoutesFrom: "All"})
	}
	return out
}

// attachable makes most listeners valid, and of protocols that routes attach to.
func (g generator) attachable(listeners []world.Listener) {
	for i := range listeners {
		if l := &listeners[i]; g.chance(70) {
			l.Protocol, l.Port = pick(g, []string{protocolHTTP, protocolHTTP, protocolHTTPS, protocolTLS, protocolTLS, protocolTCP, protocolUDP, protocolUDP}), pick(g, []uint16{80, 443, 8080})
			l.TLSOptions = nil
			if l.TLSMode = tlsTerminate; l.Protocol != protocolHTTPS && g.chance(80) {
				l.TLSMode, l.Certificates = tlsPassthrough, nil
			}
			if l.Protocol == protocolTCP || l.Protocol == protocolUDP {
				l.Hostname = ""
			}
		}
	}
}

func (g generator) route() *world.HTTPRoute {
	out := &world.HTTPRoute{Key: world.Key{Cluster: "east", Namespace: pick(g, someNamespaces), Name: pick(g, []string{"r1", "r2", "r3"})}, Generation: int64(g.IntN(3)), Created: int64(g.IntN(3))}
	for range 1 + g.IntN(2) {
		p := world.RouteParent{
			Group: pick(g, []string{gatewayv1.GroupName, gatewayv1.GroupName, gatewayv1.GroupName, ""}), Kind: "Gateway", Namespace: pick(g, someNamespaces), Name: pick(g, []string{"gw", "gw2"}),
			Section: pick(g, []string{"", "", "l0", "l1"}), Port: pick(g, []uint16{0, 0, 443}),
		}
		switch n := g.IntN(100); {
		case n < 15:
			p.Kind, p.Name, p.Section = "ListenerSet", pick(g, someSets), pick(g, []string{"", "", "", "l0"})
			if g.chance(50) {
				p.Namespace, p.Name = "shop", someSets[0]
			}
		case n < 50:
			p.Group, p.Kind, p.Name, p.Section, p.Port = "", "Service", pick(g, someServices), pick(g, []string{"", "", "", "http"}), pick(g, []uint16{0, 0, 80, 81})
		}
		out.Parents = append(out.Parents, p)
	}
	out.Hostnames = pick(g, [][]string{nil, {"a.example.com"}, {"*.example.com", "b.example.org"}})
	for range g.IntN(3) {
		out.Rules = append(out.Rules, g.httpRule())
	}
	if len(out.Rules) > 0 && g.chance(20) { // a backend that is there most of the time
		out.Namespace = "demo"
		out.Rules[0].BackendRefs = []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: "cart", Port: ptr.To[gatewayv1.PortNumber](80)}}}}
	}
	return out
}

func (g generator) grpcRoute() *world.GRPCRoute {
	out := &world.GRPCRoute{HTTPRoute: *g.route()}
	for i := range out.Rules {
		out.Rules[i].Matches = nil
		out.Matches = append(out.Matches, pick(g, [][]gatewayv1.GRPCRouteMatch{
			nil, {{Method: &gatewayv1.GRPCMethodMatch{Service: ptr.To("shop.Cart"), Method: ptr.To("Get")}}, {Method: &gatewayv1.GRPCMethodMatch{Method: ptr.To("Get")}}},
			{{Method: &gatewayv1.GRPCMethodMatch{Type: ptr.To(gatewayv1.GRPCMethodMatchRegularExpression), Service: ptr.To(".")}}},
		}))
	}
	return out
}

func (g generator) tlsRoute() *world.TLSRoute {
	like := g.streamRoute()
	out := &world.TLSRoute{Key: like.Key, Generation: like.Generation, Created: like.Created, Parents: like.Parents, Hostnames: g.route().Hostnames}
	for _, refs := range like.Rules {
		out.Rules = append(out.Rules, gatewayv1.TLSRouteRule{BackendRefs: refs})
	}
	return out
}

func (g generator) streamRoute() world.StreamRoute {
	like := g.route()
	out := world.StreamRoute{Key: like.Key, Generation: like.Generation, Created: like.Created, Parents: like.Parents}
	for range 1 + g.IntN(2) {
		var refs []gatewayv1.BackendRef
		for range g.IntN(3) {
			refs = append(refs, gatewayv1.BackendRef{BackendObjectReference: g.backend(), Weight: pick(g, []*int32{nil, ptr.To[int32](0), ptr.To[int32](3)})})
		}
		out.Rules = append(out.Rules, refs)
	}
	if g.chance(50) { // a backend that is there most of the time
		out.Namespace = "demo"
		out.Rules = [][]gatewayv1.BackendRef{{{BackendObjectReference: gatewayv1.BackendObjectReference{Name: "cart", Port: ptr.To[gatewayv1.PortNumber](80)}}}}
	}
	return out
}

func (g generator) httpRule() gatewayv1.HTTPRouteRule {
	var out gatewayv1.HTTPRouteRule
	for range g.IntN(2) {
		out.Matches = append(out.Matches, gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{
			Type:  ptr.To(pick(g, []gatewayv1.PathMatchType{gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix, gatewayv1.PathMatchRegularExpression})),
			Value: ptr.To(pick(g, []string{"/", "/a", "/a/"})),
		}})
	}
	for range g.IntN(3) {
		out.BackendRefs = append(out.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{BackendObjectReference: g.backend()}})
	}
	if g.chance(20) {
		out.Filters = append(out.Filters, gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: g.backend()}})
	}
	if g.chance(20) {
		out.Retry = &gatewayv1.HTTPRouteRetry{Codes: pick(g, [][]gatewayv1.HTTPRouteRetryStatusCode{nil, {503, 500}}), Attempts: ptr.To(g.IntN(3)), Backoff: pick(g, []*gatewayv1.Duration{nil, ptr.To(gatewayv1.Duration("1s"))})}
	}
	if g.chance(10) {
		out.Filters = append(out.Filters, gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterCORS, CORS: &gatewayv1.HTTPCORSFilter{AllowOrigins: pick(g, [][]gatewayv1.CORSOrigin{{"*"}, {"https://a.example.com"}})}})
	}
	if g.chance(10) {
		out.Filters = append(out.Filters, gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterExtensionRef})
	}
	return out
}

func (g generator) backend() gatewayv1.BackendObjectReference {
	out := gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(pick(g, someServices)), Port: ptr.To(pick(g, []gatewayv1.PortNumber{80, 80, 80, 81, 82, 99}))}
	if g.chance(40) {
		out.Namespace = ptr.To(gatewayv1.Namespace(pick(g, someNamespaces)))
	}
	switch {
	case g.chance(5):
		out.Kind = ptr.To(gatewayv1.Kind("Odd"))
	case g.chance(20):
		out.Group, out.Kind = ptr.To(gatewayv1.Group(groupMultiCluster)), ptr.To(gatewayv1.Kind(kindServiceImport))
	}
	return out
}

func (g generator) grant() *world.ReferenceGrant {
	out := &world.ReferenceGrant{Key: world.Key{Cluster: "east", Namespace: pick(g, someNamespaces), Name: pick(g, []string{"g1", "g2"})}}
	for range 1 + g.IntN(2) {
		out.From = append(out.From, world.GrantFrom{Group: gatewayv1.GroupName, Kind: pick(g, []string{"HTTPRoute", "GRPCRoute", "TLSRoute", "Gateway", "ListenerSet", "TCPRoute", "UDPRoute"}), Namespace: pick(g, someNamespaces)})
		out.To = append(out.To, world.GrantTo{Kind: pick(g, []string{"Service", "Secret", "ConfigMap"}), Name: pick(g, []string{"", "", "cart", "cert"})})
	}
	return out
}

func (g generator) anchors() *world.Anchors {
	out := &world.Anchors{Key: world.Key{Cluster: "east", Namespace: pick(g, []string{"demo", "demo", "shop"}), Name: pick(g, someSecrets)}, Certificates: pick(g, []string{"CAs", "CAs", "others"})}
	if g.chance(20) {
		out.Certificates, out.Problem = "", "it is odd"
	}
	return out
}

func (g generator) tlsPolicy() *world.BackendTLSPolicy {
	out := &world.BackendTLSPolicy{
		Key:        world.Key{Cluster: pick(g, []world.Cluster{"east", "east", "east", "west"}), Namespace: pick(g, []string{"demo", "demo", "demo", "shop"}), Name: pick(g, []string{"p1", "p2", "p3"})},
		Generation: int64(g.IntN(3)), Created: int64(g.IntN(2)), Hostname: pick(g, []string{"cart.example.com", "cart.example.com", "cart.example.com", "other.example.com", "other.example.com", ""}),
		WellKnown: pick(g, []string{"", "System", "System", "System", "System", "example.com/odd"}), Option: pick(g, []string{"", "", "", "", "", "", "", "odd"}),
	}
	for range 1 + g.IntN(2) {
		out.Targets = append(out.Targets, world.NamedPort{Service: pick(g, []string{"cart", "cart", "cart", "stock"}), Port: pick(g, []string{"", "", "", "", "http", "ghost"})})
	}
	for range g.IntN(3) {
		out.CAs = append(out.CAs, g.anchorRef(out.Namespace))
	}
	if g.chance(30) {
		out.SANs = []world.SubjectAltName{{URI: true, Value: "spiffe://x/y"}}
	}
	return out
}

func (g generator) anchorRef(namespace string) world.SecretRef {
	return world.SecretRef{Kind: pick(g, []string{"ConfigMap", "ConfigMap", "ConfigMap", "ConfigMap", "ConfigMap", "Secret", "Odd"}), Namespace: namespace, Name: pick(g, someSecrets)}
}

// clients is what clients of HTTPS prove, or nil.
func (g generator) clients(namespace string) *world.ClientValidation {
	if g.chance(50) {
		return nil
	}
	out := &world.ClientValidation{Insecure: g.chance(30)}
	for range 1 + g.IntN(2) {
		out.CAs = append(out.CAs, g.anchorRef(pick(g, []string{namespace, namespace, namespace, "shop"})))
	}
	return out
}

func (g generator) certificates() []world.SecretRef {
	var out []world.SecretRef
	for range g.IntN(3) {
		out = append(out, world.SecretRef{Kind: pick(g, []string{"Secret", "Secret", "Secret", "Odd"}), Namespace: pick(g, someNamespaces), Name: pick(g, someSecrets)})
	}
	return out
}

// routeMoves lay a foundation of Gateways and Services, and then change nothing but what routes are about.
func routeMoves(seed uint64, steps int) []move {
	g := generator{rand.New(rand.NewPCG(seed, seed))}
	out := g.foundation()
	east := func(namespace, name string) world.Key {
		return world.Key{Cluster: "east", Namespace: namespace, Name: name}
	}
	put := func(o world.Object) { out = append(out, move{ref: o.Ref(), put: o}) }
	put(&world.GatewayClass{Key: east("", ClassWaypoint), Controller: ControllerName})
	cart := &world.Service{
		Key: east("demo", "cart"), Ports: []world.ServicePort{{Name: "http", Port: 80, Target: 8080}}, UDPPorts: []world.ServicePort{{Name: "dns", Port: 80}},
	}
	put(cart)
	put(&world.EndpointSlice{
		Key: east("demo", "odd"), Service: "cart", Ports: []world.EndpointPort{{Name: "http", Port: 8080}}, UDPPorts: []world.EndpointPort{{Name: "dns", Port: 5353}},
		Endpoints: []world.Endpoint{{Pod: "a"}, {Pod: "b"}, {Pod: "c"}},
	})
	front := func(namespace, name string) *world.Gateway { // takes most routes
		return &world.Gateway{Key: east(namespace, name), UID: "u", Class: ClassEastWest, SetsFrom: "All", Listeners: []world.Listener{
			{Name: "l0", Port: 80, Protocol: protocolHTTP, RoutesFrom: "All"},
			{Name: "l1", Port: 443, Protocol: protocolTLS, HasTLS: true, TLSMode: tlsPassthrough, RoutesFrom: "All"},
			{Name: "l2", Port: 8443, Protocol: protocolHTTPS, HasTLS: true, TLSMode: tlsTerminate, RoutesFrom: "All", Certificates: []world.SecretRef{{Kind: "Secret", Namespace: namespace, Name: "cert"}}},
		}}
	}
	put(front("shop", "gw"))
	for _, namespace := range someNamespaces {
		put(&world.Anchors{Key: east(namespace, "cert"), Certificates: "CAs"})
	}
	for step := range steps {
		var o world.Object
		switch n := g.IntN(126); {
		case n >= 124: // an appProtocol that nobody knows, or that wants TLS, comes, or goes
			odd := *cart
			switch g.IntN(4) {
			case 0:
				odd.Unspoken = []uint16{80}
			case 1, 2:
				odd.AsksTLS = []uint16{80}
			}
			o = &odd
		case n >= 118:
			o = g.anchors()
		case n >= 100:
			o = g.tlsPolicy()
		case n < 55:
			o = g.routing()
		case n < 58:
			slice := g.slice()
			slice.Key, slice.Service, slice.UDPPorts = east("demo", "odd"), "cart", []world.EndpointPort{{Name: "dns", Port: 5353}}
			o = slice
		case n < 60:
			pod := g.pod()
			pod.Key = east("demo", pick(g, somePods))
			o = pod
		case n < 75:
			gateway := g.gateway()
			gateway.Key, gateway.Class, gateway.HasParameters, gateway.Parameters, gateway.ServiceType = east(gateway.Namespace, gateway.Name), ClassEastWest, false, "", ""
			g.attachable(gateway.Listeners)
			if g.chance(30) {
				gateway = front(gateway.Namespace, gateway.Name)
			}
			gateway.Clients = g.clients(gateway.Namespace)
			if g.chance(30) {
				gateway.PortClients = []world.PortValidation{{Port: 443, Validation: g.clients(gateway.Namespace)}}
			}
			if refs := g.certificates(); len(refs) > 0 {
				gateway.ClientCertificate = &refs[0]
			}
			if g.chance(20) {
				gateway.Status = []world.GatewayAddress{{Type: addressIP, Value: g.doorAddress()}}
				gateway.Name, gateway.Class = AutomaticWaypoint, pick(g, []string{ClassWaypoint, "other"})
				gateway.Listeners = []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE, RoutesFrom: pick(g, []string{"", "", "All"})}}
			}
			o = gateway
		case n < 90:
			service := g.service()
			service.Key = east(service.Namespace, pick(g, someServices))
			o = service
			if g.chance(60) { // it is there most of the time
				o = cart
			}
		default:
			o = &world.Namespace{Key: world.Key{Cluster: "east", Name: pick(g, someNamespaces)}, Labels: pick(g, []map[string]string{nil, {"private": "yes"}, {world.LabelUseWaypoint: "none"}})}
		}
		m := move{step: step + 1, ref: o.Ref(), put: o}
		if g.chance(25) {
			m.put = nil
		}
		out = append(out, m)
	}
	return out
}

// The engine says what Build says while routes, grants, Secrets, and all that they are about, come and go. Routes must attach on the way, or
// nothing was shown.
func TestEngineAgreesWithBuildOnRoutes(t *testing.T) {
	attached, resolved, passed, secrets, calls, rivals, routed, enforced, automatic := 0, 0, 0, 0, 0, 0, 0, 0, 0
	streams, sets, inSets, policies, encrypted, refused, conflicts, validated, proved := 0, 0, 0, 0, 0, 0, 0, 0, 0
	for seed := range uint64(10) {
		moves := routeMoves(seed, 280)
		agree(t, moves)
		engine := NewEngine(testConfig)
		for _, d := range deltas(moves) {
			for answered := false; !answered; d, answered = whatIsRead(engine) {
				engine.Apply(d)
			}
			out := engine.Output()
			secrets += len(out.WantObjects)
			automatic += len(out.WantWaypoints)
			for _, n := range out.AttachedSets {
				sets += n
			}
			for ref, found := range out.Findings {
				if ref.Kind == world.KindBackendTLSPolicy {
					policies++
				}
				for _, f := range found {
					if ref.Kind == world.KindBackendTLSPolicy && f.Reason == string(gatewayv1.PolicyReasonConflicted) {
						conflicts++
					}
					switch {
					case f.Type == ConditionEnforced && f.Status == isTrue:
						enforced++
					case f.Type == ConditionEnforced:
						routed++
					}
				}
				if slices.ContainsFunc(found, func(f Finding) bool { return f.Reason == routeConflicted }) {
					rivals++
				}
			}
			for _, g := range out.Mesh.Gateways {
				for _, b := range g.BackendTLS {
					if encrypted++; b.Problem != "" {
						refused++
					}
				}
				if g.ClientCertificate != nil {
					proved++
				}
				for _, l := range g.Listeners {
					if strings.Contains(l.Name, "/") && len(l.Routes)+len(l.TLSRoutes) > 0 {
						inSets++
					}
					if l.Clients != nil {
						validated++
					}
					passed += len(l.TLSRoutes)
					if l.Stream != nil {
						streams++
					}
					for _, r := range l.Routes {
						attached++
						if r.GRPC {
							calls++
						}
						if len(r.Rules) > 0 && len(r.Rules[0].Backends) > 0 && r.Rules[0].Backends[0].Problem == "" {
							resolved++
						}
					}
				}
			}
		}
	}
	if routed < 50 || enforced < 5 || automatic < 50 {
		t.Errorf("%d routes were at Services without a waypoint, %d at ones with one, and %d waypoints wanted: too few to show anything", routed, enforced, automatic)
	}
	if sets < 100 || inSets < 20 {
		t.Errorf("%d ListenerSets were accepted, and routes attached to %d of their listeners: too few to show anything", sets, inSets)
	}
	if policies < 100 || encrypted < 100 || refused < 3 || encrypted-refused < 15 || conflicts < 2 || validated < 20 || proved < 20 {
		t.Errorf("%d policies counted, %d backends in TLS, %d of them refused, %d conflicts, %d listeners whose clients prove themselves, %d Gateways that do: too few to show anything",
			policies, encrypted, refused, conflicts, validated, proved)
	}
	if calls < 20 || rivals < 5 {
		t.Errorf("%d GRPCRoutes were attached, and %d routes kept out: too few to show anything", calls, rivals)
	}
	if attached < 100 || resolved < 10 || passed < 10 || secrets < 50 || streams < 10 {
		t.Errorf("%d routes were attached, %d with a backend, %d TLSRoutes, %d TCPRoutes and UDPRoutes, and %d Secrets wanted: too few to show anything",
			attached, resolved, passed, streams, secrets)
	}
}
