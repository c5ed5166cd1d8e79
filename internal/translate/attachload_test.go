// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// laden is a Gateway with 20 listeners for TLS and one for HTTP, which take routes of all namespaces.
func laden() *world.Gateway {
	g := &world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, Listeners: []world.Listener{{Name: "http", Port: 80, Protocol: protocolHTTP, RoutesFrom: string(gatewayv1.NamespacesFromAll)}}}
	for i := range 20 {
		g.Listeners = append(g.Listeners, world.Listener{Name: fmt.Sprint("tls", i), Port: uint16(7000 + i), Protocol: protocolTLS, HasTLS: true, TLSMode: tlsPassthrough, RoutesFrom: string(gatewayv1.NamespacesFromAll)})
	}
	return g
}

func atLaden() []world.RouteParent {
	return []world.RouteParent{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "demo", Name: "gw"}}
}

// wide is a TLSRoute of 100 long hostnames.
func wide(namespace, name string, created int64) *world.TLSRoute {
	r := &world.TLSRoute{Key: world.Key{Cluster: "east", Namespace: namespace, Name: name}, Created: created, Parents: atLaden(), Rules: []gatewayv1.TLSRouteRule{{}}}
	for i := range 100 {
		r.Hostnames = append(r.Hostnames, fmt.Sprintf("h%d.%s.%s.%s.example.com", i, strings.Repeat("x", 50), name, namespace))
	}
	return r
}

// What routes take of what a Gateway is told is bounded, TLSRoutes as often as they are told: the youngest of a namespace that has more than its share are left out, and nobody else's.
func TestRoutesOfAGatewayAreBounded(t *testing.T) {
	const most = 1<<20 + 1<<10
	s := newUnreadScene(t)
	s.x.maxRoutes = most
	var all []world.Object
	put := func(o ...world.Object) {
		all = append(all, o...)
		s.put(o...)
	}
	put(laden())
	plain := s.route("plain", "cart")
	plain.Namespace, plain.Parents, plain.Created = "b", atLaden(), 9
	put(plain)
	served := func() string {
		names, bytes := set[string]{}, 0
		for _, l := range s.Output().Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "gw"}].Listeners {
			for _, r := range l.Routes {
				names.add(r.Namespace + "/" + r.Name)
			}
			for _, r := range l.TLSRoutes {
				names.add(r.Namespace + "/" + r.Name)
				bytes += r.Size()
			}
		}
		if bytes > most {
			t.Errorf("%d bytes of TLSRoutes", bytes)
		}
		var out []string
		for _, o := range all {
			ref := o.Ref()
			if ref.Kind == world.KindTLSRoute || ref.Kind == world.KindHTTPRoute {
				name := ref.Namespace + "/" + ref.Name
				said := s.Output().Findings[ref][0]
				if names.has(name) != (said.Status == isTrue) || !names.has(name) && said.Reason != ReasonTooMany {
					t.Errorf("%s is served: %t, and is told %+v", name, names.has(name), said)
				}
				if names.has(name) {
					out = append(out, name)
				}
			}
		}
		return strings.Join(out, " ")
	}
	for i := range 8 {
		put(wide("a", fmt.Sprint("r", i), int64(10-i)))
	}
	const fits = "b/plain a/r2 a/r3 a/r4 a/r5 a/r6 a/r7"
	if got := served(); got != fits {
		t.Errorf("served are %s, want %s", got, fits)
	}
	put(wide("b", "tls", 100))
	const both = "b/plain a/r3 a/r4 a/r5 a/r6 a/r7 b/tls"
	if got := served(); got != both {
		t.Errorf("with another namespace's: %s, want %s", got, both)
	}
	// As it came does not matter.
	fresh := newUnreadScene(t)
	fresh.x.maxRoutes = most
	fresh.put(all...)
	if a, b := s.Output(), fresh.Output(); !reflect.DeepEqual(a.Findings, b.Findings) || !reflect.DeepEqual(a.Mesh.Gateways, b.Mesh.Gateways) || !reflect.DeepEqual(a.Listeners, b.Listeners) {
		t.Error("what came one by one is not what came at once")
	}
	// With less of it, all is served.
	d := world.NewDelta()
	for i := range 6 {
		d.Delete(wide("a", fmt.Sprint("r", i), 0).Ref())
	}
	s.Apply(d)
	all = append(all[:2:2], all[8:]...)
	if got, want := served(), "b/plain a/r6 a/r7 b/tls"; got != want {
		t.Errorf("afterwards: %s, want %s", got, want)
	}
}

// A route takes of its Gateway what finding its matches by its hostnames takes there, at each listener: a large one at many is left out, and at few it is not.
func TestWhatHTTPRoutesTakeAtListenersIsBounded(t *testing.T) {
	s := newUnreadScene(t)
	s.x.maxRoutes = 1 << 20
	g := &world.Gateway{Key: inDemo("gw"), Class: ClassEastWest}
	for i := range 20 {
		g.Listeners = append(g.Listeners, world.Listener{Name: fmt.Sprint("l", i), Port: 80, Protocol: protocolHTTP, Hostname: fmt.Sprintf("h%d.example.com", i), RoutesFrom: string(gatewayv1.NamespacesFromAll)})
	}
	path := gatewayv1.PathMatchPathPrefix
	large := s.route("large", "cart")
	large.Namespace, large.Parents, large.Created, large.Hostnames = "mallory", atLaden(), 1, []string{"*.example.com"}
	for i := range 15 {
		large.Hostnames = append(large.Hostnames, fmt.Sprintf("x%d.example.com", i)) // which no listener has
	}
	large.Rules = []gatewayv1.HTTPRouteRule{{}}
	for i := range 128 {
		value := fmt.Sprint("/", i)
		large.Rules[0].Matches = append(large.Rules[0].Matches, gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &path, Value: &value}})
	}
	small := s.route("small", "cart")
	small.Namespace, small.Parents, small.Created = "b", atLaden(), 2
	s.put(g, large, small)
	said := func(want string) {
		t.Helper()
		if got := s.Output().Findings[large.Ref()][0]; got.Status != isTrue || want != "" {
			if got.Status != isTrue && want == got.Reason {
				return
			}
			t.Errorf("the large route is told %+v, want the reason %q", got, want)
		}
	}
	said("")
	if got := s.Output().Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "gw"}].Listeners[19].Routes; !slices.ContainsFunc(got, func(r *mesh.HTTPRoute) bool { return r.Name == "large" }) {
		t.Error("it is not at a listener whose hostname it has")
	}
	wide := *g
	wide.Listeners = nil
	for i := range 100 {
		wide.Listeners = append(wide.Listeners, world.Listener{Name: fmt.Sprint("l", i), Port: uint16(1000 + i), Protocol: protocolHTTP, RoutesFrom: string(gatewayv1.NamespacesFromAll)})
	}
	s.put(&wide)
	said(ReasonTooMany)
	if got := s.Output().Findings[small.Ref()][0]; got.Status != isTrue {
		t.Errorf("the small route is told %+v", got)
	}
	s.put(g)
	said("")
}
