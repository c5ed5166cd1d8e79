// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"reflect"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// What routes fit is remembered. It must be as if found anew when what it depends on changes and no route does: listeners, which sets there are, and the labels of a route's namespace.
func TestRememberedFitsAreForgotten(t *testing.T) {
	const every = string(gatewayv1.NamespacesFromAll)
	tenant := func(name string) world.Key { return world.Key{Cluster: "east", Namespace: "tenant", Name: name} }
	gateway := func(hostname string, setsFrom string) *world.Gateway {
		return &world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, SetsFrom: setsFrom, Listeners: []world.Listener{
			{Name: "web", Port: 80, Protocol: protocolHTTP, Hostname: hostname, RoutesFrom: "Selector", RouteNamespaces: &world.Selector{MatchLabels: map[string]string{"web": "yes"}}},
		}}
	}
	namespace := func(web string) *world.Namespace {
		return &world.Namespace{Key: world.Key{Cluster: "east", Name: "tenant"}, Labels: map[string]string{"web": web}}
	}
	set := func(hostname string) *world.ListenerSet {
		return &world.ListenerSet{Key: tenant("set"), Gateway: inDemo("gw"), Listeners: []world.Listener{{Name: "own", Port: 80, Protocol: protocolHTTP, Hostname: hostname}}}
	}
	elsewhere := set("shop.example.com")
	elsewhere.Gateway = inDemo("none")

	s := newUnreadScene(t)
	shop := s.route("shop", "cart")
	shop.Key, shop.Hostnames = tenant("shop"), []string{"shop.example.com"}
	shop.Parents = append(atLaden(), world.RouteParent{Group: gatewayv1.GroupName, Kind: "ListenerSet", Namespace: "tenant", Name: "set"})
	objects := map[world.ObjectRef]world.Object{}
	for _, step := range []struct {
		what string
		put  world.Object
		gone bool
		want string // the reason at the Gateway, and at the set
	}{
		{what: "the route is alone", put: shop},
		{what: "a Gateway", put: gateway("shop.example.com", ""), want: "NotAllowedByListeners"},
		{what: "its namespace has a label", put: namespace("yes"), want: "Accepted"},
		{what: "another one", put: namespace("no"), want: "NotAllowedByListeners"},
		{what: "and the first again", put: namespace("yes"), want: "Accepted"},
		{what: "another hostname", put: gateway("other.example.com", ""), want: "NoMatchingListenerHostname"},
		{what: "a set that is not let in", put: set("shop.example.com"), want: "NoMatchingListenerHostname NoMatchingParent"},
		{what: "a set that is", put: gateway("other.example.com", every), want: "NoMatchingListenerHostname Accepted"},
		{what: "another hostname of it", put: set("other2.example.com"), want: "NoMatchingListenerHostname NoMatchingListenerHostname"},
		{what: "a set of no Gateway", put: elsewhere, want: "NoMatchingListenerHostname"},
		{what: "of this one again", put: set("shop.example.com"), want: "NoMatchingListenerHostname Accepted"},
		{what: "no set", put: set(""), gone: true, want: "NoMatchingListenerHostname"},
		{what: "no Gateway", put: gateway("", ""), gone: true},
	} {
		d := world.NewDelta()
		if ref := step.put.Ref(); step.gone {
			d.Delete(ref)
			delete(objects, ref)
		} else {
			d.Put(step.put)
			objects[ref] = step.put
		}
		s.Apply(d)
		got := ""
		for _, f := range s.Output().Findings[shop.Ref()] {
			if f.Type == routeAccepted {
				if got != "" {
					got += " "
				}
				got += f.Reason
			}
		}
		if got != step.want {
			t.Errorf("%s: the route is told %q, want %q", step.what, got, step.want)
		}
		fresh := newUnreadScene(t)
		for _, o := range objects {
			fresh.put(o)
		}
		if a, b := s.Output().Findings[shop.Ref()], fresh.Output().Findings[shop.Ref()]; !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %+v, and found anew %+v", step.what, a, b)
		}
	}
}

// BenchmarkOneMoreRouteBesideMany is the work for a route of a Gateway's own listener while a tenant has 2,000 others at its sets: without hostnames, and at all listeners.
func BenchmarkOneMoreRouteBesideMany(b *testing.B) {
	for _, tc := range []struct {
		sets int
		kind world.Kind
	}{{1, world.KindHTTPRoute}, {32, world.KindHTTPRoute}, {32, world.KindTLSRoute}, {32, world.KindTCPRoute}, {32, world.KindGRPCRoute}} {
		b.Run(fmt.Sprintf("sets=%d/%s", tc.sets, tc.kind), func(b *testing.B) {
			e := NewEngine(testConfig)
			d := world.NewDelta()
			d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
			d.Put(&world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromAll), Listeners: []world.Listener{{Name: "own", Port: 80, Protocol: protocolHTTP, Hostname: "own.example.com"}}})
			mallorys := func(name string) world.Key { return world.Key{Cluster: "east", Namespace: "mallory", Name: name} }
			var parents []world.RouteParent
			for i := range tc.sets {
				of := &world.ListenerSet{Key: mallorys(fmt.Sprint("set", i)), Created: int64(i + 1), Gateway: inDemo("gw")}
				for j := range 15 {
					l := hostNumbered(15*i + j)
					l.Name = fmt.Sprint("l", j)
					switch tc.kind {
					case world.KindTLSRoute:
						l.Port, l.Protocol, l.HasTLS, l.TLSMode = 443, protocolTLS, true, tlsPassthrough
					case world.KindTCPRoute:
						l = world.Listener{Name: l.Name, Port: uint16(9000 + j), Protocol: protocolTCP}
					}
					of.Listeners = append(of.Listeners, l)
				}
				d.Put(of)
				parents = append(parents, world.RouteParent{Group: gatewayv1.GroupName, Kind: "ListenerSet", Namespace: "mallory", Name: of.Name})
			}
			for i := range 2000 {
				r := world.HTTPRoute{Key: mallorys(fmt.Sprint("r", i)), Created: int64(i), Parents: parents}
				switch {
				case tc.kind == world.KindTLSRoute:
					d.Put(&world.TLSRoute{Key: r.Key, Created: r.Created, Parents: parents, Rules: []gatewayv1.TLSRouteRule{{}}})
				case tc.kind == world.KindTCPRoute:
					d.Put(&world.TCPRoute{StreamRoute: world.StreamRoute{Key: r.Key, Created: r.Created, Parents: parents}})
				case tc.kind == world.KindGRPCRoute && i%2 == 0: // rivals of the others
					d.Put(&world.GRPCRoute{HTTPRoute: r})
				default:
					d.Put(&r)
				}
			}
			e.Apply(d)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d := world.NewDelta()
				other := &world.HTTPRoute{Key: inDemo("other"), Created: 9, Parents: atLaden()}
				if d.Put(other); i%2 == 1 {
					d.Delete(other.Ref())
				}
				if change := e.Apply(d); len(change.Findings) == 0 {
					b.Fatal("nothing is said of the route")
				}
			}
		})
	}
}
