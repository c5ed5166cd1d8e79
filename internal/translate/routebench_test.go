// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// manyRoute is one of many routes at one Gateway, each of a host of its own.
func manyRoute(name string) *world.HTTPRoute {
	return &world.HTTPRoute{
		Key: world.Key{Cluster: "east", Namespace: "web", Name: name}, Created: 7, Generation: 1, Hostnames: []string{name + ".example.com"},
		Parents: []world.RouteParent{{Group: gatewayv1.GroupName, Kind: string(world.KindGateway), Namespace: "web", Name: "edge"}},
		Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
			Name: "app", Port: ptr.To[gatewayv1.PortNumber](80),
		}}}}}},
	}
}

// BenchmarkOneMoreRoute is the work for a route that comes to 5,000 others, or goes again.
func BenchmarkOneMoreRoute(b *testing.B) {
	e := NewEngine(world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"})
	d := large(10)
	d.Put(&world.Namespace{Key: world.Key{Cluster: "east", Name: "web"}})
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
	d.Put(&world.Gateway{
		Key: world.Key{Cluster: "east", Namespace: "web", Name: "edge"}, Class: ClassEastWest,
		Listeners: []world.Listener{{Name: "http", Port: 8080, Protocol: protocolHTTP}},
	})
	d.Put(&world.Service{Key: world.Key{Cluster: "east", Namespace: "web", Name: "app"}, Ports: []world.ServicePort{{Name: "http", Port: 80}}})
	for i := range 5000 {
		d.Put(manyRoute(fmt.Sprintf("route-%04d", i)))
	}
	e.Apply(d)
	gateway := mesh.GatewayKey{Namespace: "web", Name: "edge"}
	if g := e.Output().Mesh.Gateways[gateway]; g == nil || len(g.Listeners) != 1 || len(g.Listeners[0].Routes) != 5000 {
		b.Fatalf("the gateway has not got its routes: %+v", g)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d := world.NewDelta()
		if one := manyRoute("route-more"); i%2 == 0 {
			d.Put(one)
		} else {
			d.Delete(one.Ref())
		}
		if e.Apply(d).Mesh.Gateways[gateway] == nil {
			b.Fatal("the gateway is not told")
		}
	}
}
