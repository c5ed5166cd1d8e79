// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Waypoints of clients' namespaces are looked up by order, and are few: what is neither is refused.
func TestConsumerWaypointsOnTheWire(t *testing.T) {
	named := func(namespaces ...string) (out []mesh.ConsumerWaypoint) {
		for _, n := range namespaces {
			out = append(out, mesh.ConsumerWaypoint{Namespace: n, At: mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "a", Hostname: "wp.a.svc.cluster.local"}, Port: 15008}})
		}
		return out
	}
	var most []string
	for i := range mesh.MaxConsumers {
		most = append(most, fmt.Sprintf("n%04d", i))
	}
	for _, test := range []struct {
		name       string
		namespaces []string
		ok         bool
	}{
		{"in order", []string{"a", "b"}, true},
		{"out of order", []string{"b", "a"}, false},
		{"twice", []string{"a", "a"}, false},
		{"without a name", []string{""}, false},
		{"as many as there may be", most, true},
		{"more", append(most, "z"), false},
	} {
		s := &mesh.Service{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local", Consumers: named(test.namespaces...)}
		if _, err := serviceFromProto(serviceToProto(s)); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
