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

// TestRoutesAtServicesOfAStranger: what is said of routes at Services is remembered until they or the Services change, and allocated once.
func TestRoutesAtServicesOfAStranger(t *testing.T) {
	allocations := func(d world.Delta) float64 {
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
	d := quietShop()
	alone := allocations(d)
	const routes, services = 500, 32
	var parents []world.RouteParent
	for i := range services {
		name := fmt.Sprint("s", i)
		d.Put(&world.Service{Key: world.Key{Cluster: "east", Namespace: "web", Name: name}, Ports: []world.ServicePort{{Name: "http", Port: 80}}})
		parents = append(parents, world.RouteParent{Kind: "Service", Namespace: "web", Name: name})
	}
	for i := range routes {
		d.Put(&world.HTTPRoute{Key: foreign(fmt.Sprint("r", i)), Created: 9, Parents: parents, Rules: []gatewayv1.HTTPRouteRule{{}}})
	}
	beside := allocations(d)
	t.Logf("%v allocations, and %v alone", beside, alone)
	if beside > alone+2*routes {
		t.Errorf("a route more and one less are %v allocations beside %d routes at %d Services, and %v alone", beside, routes, services, alone)
	}
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
