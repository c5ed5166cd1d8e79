// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestConsumersOfAServiceAreBounded: the namespaces that had routes at it first count, however many routes one has, and the others say so. When one leaves, the next one counts.
func TestConsumersOfAServiceAreBounded(t *testing.T) {
	cart := world.Key{Cluster: "east", Namespace: "shop", Name: "cart"}
	moves := []move{
		{put: &world.GatewayClass{Key: cart.In("", ClassWaypoint), Controller: ControllerName}},
		{put: &world.Service{Key: cart, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []world.ServicePort{{Name: "http", Port: 80}}}},
	}
	at := []world.RouteParent{{Kind: "Service", Namespace: cart.Namespace, Name: cart.Name}}
	var refs []world.ObjectRef
	for i := range mesh.MaxConsumers + 2 { // the younger, the earlier by name
		namespace := fmt.Sprintf("n%03d", 999-i)
		r := &world.HTTPRoute{Key: cart.In(namespace, "r"), Created: int64(i + 1), Parents: at, Rules: []gatewayv1.HTTPRouteRule{{}}}
		moves = append(moves, move{put: r}, move{put: &world.Gateway{
			Key: cart.In(namespace, AutomaticWaypoint), Class: ClassWaypoint, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE}},
			Status: []world.GatewayAddress{{Type: addressIP, Value: "10.96.0.2"}},
		}})
		refs = append(refs, r.Ref())
	}
	moves = append(moves, move{step: 1, ref: refs[3]})
	for i := range moves {
		if moves[i].put != nil {
			moves[i].ref = moves[i].put.Ref()
		}
	}
	agree(t, moves)

	d := world.NewDelta()
	for _, m := range moves {
		if m.put != nil {
			d.Put(m.put)
		}
	}
	state := world.NewState()
	state.Apply(d)
	out := Build(state, testConfig)
	service := out.Mesh.Services[mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}]
	for i, ref := range refs {
		in := i < mesh.MaxConsumers
		if told := service.ConsumerWaypoint(ref.Namespace) != nil; told != in {
			t.Errorf("namespace %s, number %d: its waypoint is told: %v", ref.Namespace, i, told)
		}
		for _, f := range out.Findings[ref] {
			if f.Type == routeAccepted && (f.Status == isTrue) != in || !in && f.Type == routeAccepted && f.Reason != ReasonTooMany {
				t.Errorf("namespace %s, number %d: %+v", ref.Namespace, i, f)
			}
		}
	}
}
