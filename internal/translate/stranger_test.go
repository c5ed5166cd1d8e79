// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// quietShop is a Gateway with 100 routes that lets in all ListenerSets, and a namespace of somebody else beside it.
func quietShop() world.Delta {
	d := large(10)
	for _, n := range []string{"web", "mallory"} {
		d.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: n}})
	}
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
	d.Put(&world.Gateway{Key: world.Key{Cluster: "east", Namespace: "web", Name: "edge"}, Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromAll),
		Listeners: []world.Listener{{Name: "http", Port: 8080, Protocol: protocolHTTP}}})
	d.Put(&world.Service{Key: world.Key{Cluster: "east", Namespace: "web", Name: "app"}, Ports: []world.ServicePort{{Name: "http", Port: 80}}})
	for i := range 100 {
		d.Put(manyRoute(fmt.Sprintf("route-%04d", i)))
	}
	return d
}

// foreign is a name of the stranger's namespace.
func foreign(name string) world.Key {
	return world.Key{Cluster: "east", Namespace: "mallory", Name: name}
}

// moreRoutes is the processor time that some changes of one route of the shop take, each a route more or one less; it stops when that is beyond a limit.
func moreRoutes(t *testing.T, d world.Delta, changes int, limit time.Duration) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e := NewEngine(world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"})
	e.Apply(d)
	begin := processorTime(t)
	for i := range changes {
		d := world.NewDelta()
		if one := manyRoute("route-more"); i%2 == 0 {
			d.Put(one)
		} else {
			d.Delete(one.Ref())
		}
		if e.Apply(d).Mesh.Gateways[mesh.GatewayKey{Namespace: "web", Name: "edge"}] == nil {
			t.Fatal("the gateway is not told")
		}
		if processorTime(t)-begin > limit {
			break
		}
	}
	return processorTime(t) - begin
}

// stalls checks that what a stranger has makes changes of somebody else at most so many times as dear as they are without.
func stalls(t *testing.T, most int, stranger func(d *world.Delta)) {
	t.Helper()
	const changes = 20
	d := quietShop()
	alone := max(moreRoutes(t, d, 10*changes, time.Hour)/10, 4*time.Millisecond) // what is less may be too short for the clock
	stranger(&d)
	limit := time.Duration(most) * alone
	beside := moreRoutes(t, d, changes, limit)
	t.Logf("%d changes take %v, and %v alone", changes, beside, alone)
	if beside > limit {
		t.Errorf("changes of a route take %v and more beside a stranger, and %v alone", beside, alone)
	}
}

// TestPoliciesOfAStranger: at which Gateways BackendTLSPolicies are in force is found in one look at the routes that are accepted somewhere, and what these lead to is remembered.
func TestPoliciesOfAStranger(t *testing.T) {
	for _, attached := range []bool{false, true} {
		stalls(t, 25, func(d *world.Delta) {
			for i := range 16 {
				p := &world.BackendTLSPolicy{Key: foreign(fmt.Sprint("p", i)), Hostname: "a.example", WellKnown: string(gatewayv1.WellKnownCACertificatesSystem)}
				for j := range 16 {
					name := fmt.Sprint("s", 16*i+j)
					d.Put(&world.Service{Key: foreign(name), Ports: []world.ServicePort{{Name: "http", Port: 80}}})
					p.Targets = append(p.Targets, world.NamedPort{Service: name})
				}
				d.Put(p)
			}
			d.Put(&world.Gateway{Key: foreign("own"), Class: ClassEastWest, Listeners: []world.Listener{{Name: "http", Port: 8080, Protocol: protocolHTTP}}})
			for i := range 300 {
				r := &world.HTTPRoute{Key: foreign(fmt.Sprint("r", i)), Created: 9}
				if attached {
					r.Parents = []world.RouteParent{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "mallory", Name: "own"}}
				}
				for a := range 16 {
					rule := gatewayv1.HTTPRouteRule{}
					for b := range 16 {
						rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
							Name: gatewayv1.ObjectName(fmt.Sprint("s", 16*a+b)), Port: ptr.To[gatewayv1.PortNumber](80),
						}}})
					}
					r.Rules = append(r.Rules, rule)
				}
				d.Put(r)
			}
		})
	}
}

// allocationsOfARoute are those that a route of the shop more and then one less take.
func allocationsOfARoute(d world.Delta) float64 {
	e := NewEngine(world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"})
	e.Apply(d)
	return testing.AllocsPerRun(5, func() {
		d := world.NewDelta()
		d.Put(manyRoute("route-more"))
		e.Apply(d)
		d = world.NewDelta()
		d.Delete(manyRoute("route-more").Ref())
		e.Apply(d)
	})
}

// TestRoutesAtServicesOfAStranger: what is said of routes at Services is remembered, and looked for again only if something happened to one of these Services or to what the route refers to.
func TestRoutesAtServicesOfAStranger(t *testing.T) {
	d := quietShop()
	const routes, services = 100, 32
	at := func(name string) world.Key { return world.Key{Cluster: "east", Namespace: "web", Name: name} }
	serviceOf := func(name string, ports ...uint16) *world.Service {
		s := &world.Service{Key: at(name)}
		for _, p := range ports {
			s.Ports = append(s.Ports, world.ServicePort{Name: fmt.Sprint("p", p), Port: p})
		}
		return s
	}
	var parents []world.RouteParent
	for i := range services {
		d.Put(serviceOf(fmt.Sprint("s", i), 80))
		parents = append(parents, world.RouteParent{Kind: "Service", Namespace: "web", Name: fmt.Sprint("s", i)})
	}
	d.Put(serviceOf("lone", 80))
	for i := range routes {
		d.Put(&world.HTTPRoute{Key: foreign(fmt.Sprint("r", i)), Created: 9, Parents: parents, Rules: []gatewayv1.HTTPRouteRule{{}}})
	}
	there := gatewayv1.Namespace("web")
	refers := &world.HTTPRoute{Key: foreign("refers"), Parents: []world.RouteParent{{Kind: "Service", Namespace: "web", Name: "lone"}}, Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{
		{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Namespace: &there, Name: "app", Port: ptr.To[gatewayv1.PortNumber](80)}}},
	}}}}
	d.Put(refers)
	e := NewEngine(testConfig)
	e.Apply(d)
	resolved := func() string {
		for _, f := range e.Output().Findings[refers.Ref()] {
			if f.Type == routeResolved {
				return f.Status
			}
		}
		return ""
	}
	for _, c := range []struct {
		what     string
		put      world.Object
		want     int // routes, by Service at which they are
		resolves string
	}{
		{"another route", manyRoute("route-more"), 0, isFalse},
		{"another Gateway", &world.Gateway{Key: foreign("gate"), Class: ClassEastWest}, 0, isFalse},
		{"a grant", &world.ReferenceGrant{Key: at("grant"), From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: string(world.KindHTTPRoute), Namespace: "mallory"}}, To: []world.GrantTo{{Kind: "Service"}}}, 1, isTrue},
		{"what one refers to", serviceOf("app", 81), 1, isFalse},
		{"the Service of one", serviceOf("lone", 82), 1, isFalse},
		{"the Service of all others", serviceOf("s7", 83), routes * services, isFalse},
	} {
		before := e.x.servicesAsked
		d := world.NewDelta()
		d.Put(c.put)
		e.Apply(d)
		if got := e.x.servicesAsked - before; got != c.want {
			t.Errorf("%s: it is asked %d times what becomes of a route at a Service, want %d", c.what, got, c.want)
		}
		if got := resolved(); got != c.resolves {
			t.Errorf("%s: the references of a route are resolved: %s, want %s", c.what, got, c.resolves)
		}
	}
}

// TestWaypointsOfRoutesAtServices: who governs a waypoint may be for a Service to say, and then of the routes at what is behind it, too.
func TestWaypointsOfRoutesAtServices(t *testing.T) {
	at := func(name string) world.Key { return world.Key{Cluster: "east", Namespace: "web", Name: name} }
	route := &world.HTTPRoute{Key: at("route"), Parents: []world.RouteParent{{Kind: "Service", Namespace: "web", Name: "app"}}, Rules: []gatewayv1.HTTPRouteRule{{}}}
	made := &world.Service{Key: at("wp"), Labels: map[string]string{LabelManagedBy: ManagedBy, LabelGatewayName: "wp"}, Ports: []world.ServicePort{{Name: "p", Port: 15008}}}
	objects := []world.Object{
		&world.Namespace{Key: world.Key{Cluster: "east", Name: "web"}, Labels: map[string]string{world.LabelUseWaypoint: "wp"}},
		&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassWaypoint}, Controller: ControllerName},
		&world.Gateway{Key: at("wp"), Class: ClassWaypoint, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE}}, Status: []world.GatewayAddress{{Type: addressIP, Value: "10.0.0.9"}}},
		&world.Service{Key: at("app"), Ports: []world.ServicePort{{Name: "p", Port: 80}}}, made, route,
	}
	var moves []move
	for _, o := range objects {
		moves = append(moves, move{put: o, ref: o.Ref()})
	}
	moves = append(moves, move{step: 1, ref: objects[1].Ref()}, move{step: 2, ref: made.Ref()}, move{step: 3, put: made, ref: made.Ref()})
	agree(t, moves)
}

// TestSetsOfAStranger: of the ListenerSets of one namespace the listeners of the oldest alone are looked at.
func TestSetsOfAStranger(t *testing.T) {
	stalls(t, 150, func(d *world.Delta) {
		for i := range 600 {
			s := &world.ListenerSet{Key: foreign(fmt.Sprint("set", i)), Created: int64(i + 1), Gateway: world.Key{Cluster: "east", Namespace: "web", Name: "edge"}}
			for j := range 64 {
				l := hostNumbered(64*i + j)
				l.Name = fmt.Sprint("l", j)
				s.Listeners = append(s.Listeners, l)
			}
			d.Put(s)
		}
	})
}
