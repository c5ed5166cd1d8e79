// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestWaypointCostsWhatItIsTold: as there may be a waypoint in every namespace, telling one must not look at the policies for what is behind others.
func TestWaypointCostsWhatItIsTold(t *testing.T) {
	cost := func(others int) float64 {
		d := world.NewDelta()
		key := func(namespace, name string) world.Key {
			return world.Key{Cluster: "east", Namespace: namespace, Name: name}
		}
		d.Put(&world.GatewayClass{Key: key("", ClassWaypoint), Controller: ControllerName})
		waypoint := &world.Gateway{
			Key: key("shop", "wp"), Class: ClassWaypoint, Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: protocolHBONE}},
			Status: []world.GatewayAddress{{Type: addressIP, Value: "10.97.0.1"}},
		}
		d.Put(waypoint)
		guarded := func(namespace string, labels map[string]string, address byte) {
			d.Put(&world.Service{Key: key(namespace, "cart"), Labels: labels, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, address})}, Ports: []world.ServicePort{{Port: 80}}})
			d.Put(&world.AuthorizationPolicy{Key: key(namespace, "p"), Action: "ALLOW", HasTargets: true, Targets: []world.PolicyTarget{{Kind: targetService, Name: "cart"}}, Rules: []world.PolicyRule{{}}})
		}
		guarded("shop", map[string]string{world.LabelUseWaypoint: "wp"}, 0)
		for i := range others {
			guarded(fmt.Sprint("somebody-else-altogether-", i), nil, byte(1+i))
		}
		e := NewEngine(testConfig)
		e.Apply(d)
		for _, config := range e.gates.configs {
			if told := e.x.told(config, nil, nil); len(told.ServicePolicies) != 1 || len(told.ServicePolicies[0].Policies) != 1 {
				t.Fatalf("with %d others, the waypoint is told %+v", others, told.ServicePolicies)
			}
			return testing.AllocsPerRun(20, func() { e.x.told(config, nil, nil) })
		}
		t.Fatal("the waypoint is not served")
		return 0
	}
	if few, many := cost(1), cost(200); many > few+20 {
		t.Errorf("telling a waypoint allocates %.0f times, and %.0f times where 199 more Services of others have policies", few, many)
	}
}
