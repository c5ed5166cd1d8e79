// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// unreadScene is an engine that knows a Gateway with a listener for HTTPS and one for HTTP, a Service behind each of two routes, and nothing of what is referred to.
type unreadScene struct {
	*Engine
	t *testing.T
}

func newUnreadScene(t *testing.T) *unreadScene {
	s := &unreadScene{NewEngine(testConfig), t}
	s.put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName},
		&world.Namespace{Key: world.Key{Cluster: "east", Name: "demo"}}, serviceOf("cart"), serviceOf("bank"), s.route("r", "cart"))
	return s
}

func inDemo(name string) world.Key { return world.Key{Cluster: "east", Namespace: "demo", Name: name} }

func serviceOf(name string) *world.Service {
	return &world.Service{Key: inDemo(name), Ports: []world.ServicePort{{Name: "http", Port: 80}}}
}

func (s *unreadScene) put(all ...world.Object) {
	d := world.NewDelta()
	for _, o := range all {
		d.Put(o)
	}
	s.Apply(d)
}

// gateway has listeners with a certificate, whose clients prove themselves by a CA, if any is named.
func (s *unreadScene) gateway(certificate, clients string) *world.Gateway {
	g := &world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, Listeners: []world.Listener{{
		Name: "web", Port: 443, Protocol: protocolHTTPS, HasTLS: true, TLSMode: tlsTerminate,
		Certificates: []world.SecretRef{{Kind: "Secret", Namespace: "demo", Name: certificate}},
	}}}
	if clients != "" {
		g.Clients = &world.ClientValidation{CAs: []world.SecretRef{{Kind: "ConfigMap", Namespace: "demo", Name: clients}}}
	}
	return g
}

func (s *unreadScene) route(name, to string) *world.HTTPRoute {
	port := gatewayv1.PortNumber(80)
	return &world.HTTPRoute{Key: inDemo(name), Parents: []world.RouteParent{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "demo", Name: "gw"}},
		Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
			BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(to), Port: &port},
		}}}}}}
}

func (s *unreadScene) policy(service, ca string) *world.BackendTLSPolicy {
	return &world.BackendTLSPolicy{Key: inDemo("policy-" + service), Hostname: ca + ".example.com", Targets: []world.NamedPort{{Service: service}},
		CAs: []world.SecretRef{{Kind: "ConfigMap", Namespace: "demo", Name: ca}}}
}

func secretOf(name string) *world.Secret {
	return &world.Secret{Key: inDemo(name), Chain: "chain " + name, PrivateKey: "key"}
}

func casOf(name string) *world.Anchors {
	return &world.Anchors{Key: inDemo(name), Certificates: "CA " + name}
}

// says is what the gateway is told of TLS, and whether its listener and the policies are as they should be.
func (s *unreadScene) says() string {
	out := s.Output()
	g := out.Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "gw"}]
	if g == nil {
		return "no gateway"
	}
	var lines []string
	for _, l := range g.Listeners {
		line := "web"
		for _, c := range l.Certificates {
			line += " " + c.Chain
		}
		if l.Clients != nil {
			line += " clients=" + l.Clients.CAs
		}
		lines = append(lines, line)
	}
	for _, b := range g.BackendTLS {
		name, _, _ := strings.Cut(b.Service.Hostname, ".")
		lines = append(lines, fmt.Sprintf("%s %s%s", name, b.CAs, b.Problem))
	}
	for ref, all := range out.Findings {
		for _, f := range all {
			if f.Type == resolvedRefs && f.Status == isFalse && ref.Kind != world.KindHTTPRoute && f.Listener == "" {
				lines = append(lines, string(ref.Kind)+" "+f.Reason)
			}
		}
	}
	if s.Unread() {
		lines = append(lines, "unread")
	}
	return strings.Join(lines, "; ")
}

func (s *unreadScene) want(step, want string) {
	s.t.Helper()
	if got := s.says(); got != want {
		s.t.Errorf("%s: %s\nwant %s", step, got, want)
	}
}

// A reference to what was not read yet changes nothing: neither what a gateway is told nor what is said of it.
func TestReferencesToWhatIsNotReadYet(t *testing.T) {
	s := newUnreadScene(t)
	s.put(s.gateway("a", ""), secretOf("a"))
	s.want("at first", "web chain a")
	s.put(s.gateway("b", ""))
	s.want("another certificate", "web chain a; unread")
	s.put(secretOf("b"))
	s.want("it was read", "web chain b")
	s.put(s.gateway("c", ""))
	s.put(world.NewAbsent(world.ObjectRef{Kind: world.KindSecret, Key: inDemo("c")}))
	s.want("it is absent", "web; Gateway ListenersNotResolved")
	s.put(s.gateway("b", ""))
	s.want("back", "web chain b")

	s.put(s.gateway("b", "x"))
	s.want("clients are to prove themselves, and nobody is let in before it is known how", "Gateway ListenersNotResolved; unread")
	s.put(casOf("x"))
	s.want("by a CA that was read", "web chain b clients=CA x")
	s.put(s.gateway("b", "y"))
	s.want("by another one", "web chain b clients=CA x; unread")
	s.put(casOf("y"))
	s.want("which was read", "web chain b clients=CA y")
}

// The same of policies, whose first use changes nothing either until it is known by whom a backend is taken for what it is. A Service to which nothing was sent before waits.
func TestPoliciesThatAreNotReadYet(t *testing.T) {
	s := newUnreadScene(t)
	s.put(s.gateway("a", ""), secretOf("a"))
	s.put(s.policy("cart", "x"))
	s.want("at first", "web chain a; unread")
	if found := s.Output().Findings[s.policy("cart", "x").Ref()]; found != nil {
		t.Errorf("something is said of a policy that was not read: %v", found)
	}
	s.put(casOf("x"))
	s.want("it was read", "web chain a; cart CA x")
	s.put(s.policy("cart", "y"))
	s.want("another CA", "web chain a; cart CA x; unread")
	s.put(s.policy("cart", "z"))
	s.want("and another one", "web chain a; cart CA x; unread")
	s.put(casOf("z"))
	s.want("which was read", "web chain a; cart CA z")

	s.put(s.policy("bank", "b"))
	s.want("where no route leads it is read, too", "web chain a; cart CA z; unread")
	s.put(casOf("b"))
	s.put(s.route("r", "bank"))
	s.want("so that a route may go there at any time", "web chain a; bank CA b")

	s.put(s.route("r", "cart"))
	d := world.NewDelta()
	d.Delete(casOf("b").Ref())
	s.Apply(d)
	s.put(s.route("r", "bank"))
	s.want("to where nothing was sent before", "web chain a; bank BackendTLSPolicy demo/policy-bank: what it refers to was not read yet; unread")
	s.put(world.NewAbsent(casOf("b").Ref()))
	s.want("and is absent", "web chain a; bank BackendTLSPolicy demo/policy-bank: no CA certificate to know backends by: validation.caCertificateRefs[0]: there is no ConfigMap demo/b; BackendTLSPolicy InvalidCACertificateRef")
}

// What may not be referred to any more is not kept, whatever else is not read.
func TestRevokedReferenceIsNotKept(t *testing.T) {
	s := newUnreadScene(t)
	from := func(names ...string) *world.Gateway {
		g := s.gateway("", "")
		g.Listeners[0].Certificates = nil
		for _, n := range names {
			g.Listeners[0].Certificates = append(g.Listeners[0].Certificates, world.SecretRef{Kind: "Secret", Namespace: "shop", Name: n})
		}
		return g
	}
	grant := &world.ReferenceGrant{Key: world.Key{Cluster: "east", Namespace: "shop", Name: "g"},
		From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "demo"}}, To: []world.GrantTo{{Kind: "Secret", Name: "a"}}}
	all := *grant
	all.Name, all.To = "all", []world.GrantTo{{Kind: "Secret", Name: "b"}}
	a := secretOf("a")
	a.Namespace = "shop"
	s.put(from("a"), a, grant, &all)
	s.want("granted", "web chain a")
	s.put(from("b"))
	s.want("another one", "web chain a; unread")
	d := world.NewDelta()
	d.Delete(grant.Ref())
	s.Apply(d)
	s.want("the first one is revoked", "web; Gateway ListenersNotResolved; unread")
}

// What is gone, or is something else now, is not kept, and nothing is kept for ever because something else is always not read yet.
func TestWhatIsGoneIsNotKept(t *testing.T) {
	for what, change := range map[string]world.Object{
		"web; Gateway ListenersNotResolved; unread":       world.NewAbsent(secretOf("a").Ref()),
		"web other; Gateway ListenersNotResolved; unread": &world.Secret{Key: inDemo("a"), Chain: "other", PrivateKey: "key"},
	} {
		s := newUnreadScene(t)
		two := s.gateway("a", "")
		two.Listeners[0].Certificates = append(two.Listeners[0].Certificates, world.SecretRef{Kind: "Secret", Namespace: "demo", Name: "n"})
		s.put(s.gateway("a", ""), secretOf("a"))
		s.put(two)
		s.want("another one is not read yet", "web chain a; unread")
		s.put(change)
		s.want("the first one changes", what)
	}

	s := newUnreadScene(t)
	s.put(s.gateway("a", "x"), secretOf("a"), casOf("x"), s.policy("cart", "x"))
	s.want("at first", "web chain a clients=CA x; cart CA x")
	for i := range 5 {
		s.put(s.gateway("a", fmt.Sprint("n", i)), s.policy("cart", fmt.Sprint("n", i)))
	}
	if says := s.says(); strings.Contains(says, "CA x") || !strings.Contains(says, "cart BackendTLSPolicy demo/policy-cart: what it refers to was not read yet") {
		t.Errorf("after five CAs that were not read: %s", says)
	}
	s.put(casOf("n4"))
	s.want("the last one was read", "web chain a clients=CA n4; cart CA n4")
}

// Clients never prove less than they are to because a CA was not read yet: where they proved nothing, or could, nobody is let in until it is.
func TestClientsNeverProveLess(t *testing.T) {
	insecure := func(s *unreadScene) *world.Gateway {
		g := s.gateway("a", "x")
		g.Clients.Insecure = true
		return g
	}
	for what, before := range map[string]func(s *unreadScene) *world.Gateway{
		"nothing": func(s *unreadScene) *world.Gateway { return s.gateway("a", "") }, "what they like": insecure,
		"at another port": func(s *unreadScene) *world.Gateway {
			g := s.gateway("a", "x")
			g.Listeners[0].Port = 8443
			return g
		},
	} {
		s := newUnreadScene(t)
		s.put(before(s), secretOf("a"), casOf("x"))
		s.put(s.gateway("a", "y"))
		for _, l := range s.Output().Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "gw"}].Listeners {
			t.Errorf("clients proved %s: port %d is served to clients of %v", what, l.Port, l.Clients)
		}
		s.put(casOf("y"))
		s.want("it was read", "web chain a clients=CA y")
	}
}
