// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestTiesAreSettledByPath: of what is equally old the first counts by "namespace/name", in which "shop-eu/r" comes before "shop/r", as '-' does before '/'.
func TestTiesAreSettledByPath(t *testing.T) {
	s := newUnreadScene(t)
	all := string(gatewayv1.NamespacesFromAll)
	s.put(&world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, Listeners: []world.Listener{
		{Name: "http", Port: 80, Protocol: protocolHTTP, RoutesFrom: all}, {Name: "tcp", Port: 90, Protocol: protocolTCP, RoutesFrom: all},
	}})
	in := func(namespace string) world.Key { return world.Key{Cluster: "east", Namespace: namespace, Name: "r"} }
	http := s.route("r", "cart")
	gone := world.NewDelta()
	gone.Delete(http.Ref())
	s.Apply(gone)
	http.Key = in("shop")
	grpc := &world.GRPCRoute{HTTPRoute: world.HTTPRoute{Key: in("shop-eu"), Parents: http.Parents}}
	s.put(http, grpc)
	for _, namespace := range []string{"shop", "shop-eu"} {
		s.put(&world.TCPRoute{StreamRoute: world.StreamRoute{Key: in(namespace), Parents: http.Parents}})
	}
	for ref, want := range map[world.ObjectRef]string{grpc.Ref(): string(gatewayv1.RouteReasonAccepted), http.Ref(): routeConflicted} {
		if f := s.Output().Findings[ref]; len(f) == 0 || f[0].Reason != want {
			t.Errorf("%v is told %+v, want %s", ref, f, want)
		}
	}
	for _, l := range s.Output().Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "gw"}].Listeners {
		if l.Name == "tcp" && (l.Stream == nil || l.Stream.Namespace != "shop-eu") {
			t.Errorf("connections are those of %+v", l.Stream)
		}
	}
}

// TestComparePaths: it is what comparing the joined names says, and makes none.
func TestComparePaths(t *testing.T) {
	var keys []world.Key
	for _, namespace := range []string{"a", "a-", "a-b", "a-b-c", "a0", "ab", "b", "b-a"} {
		for _, name := range []string{"a", "a-b", "a.b", "b"} {
			keys = append(keys, world.Key{Namespace: namespace, Name: name})
		}
	}
	for _, a := range keys {
		for _, b := range keys {
			if got, want := comparePaths(a.Namespace, a.Name, b.Namespace, b.Name), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name); got != want {
				t.Errorf("%s, %s: %d, want %d", a, b, got, want)
			}
		}
	}
	long := strings.Repeat("n", 60)
	longer := long + "-"
	if n := testing.AllocsPerRun(100, func() { comparePaths(long, "a", longer, "a") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
