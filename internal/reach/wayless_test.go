// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// An endpoint that there is no way to is one that failed, not the end of the search: whoever has met one, or another failure, goes on to those that can be reached.
func TestNoWayToOneIsNoEnd(t *testing.T) {
	nowhere := func(name, addr string) *mesh.Workload {
		return podWorkload(name, "", behind(mesh.GatewayAddress{Addr: at("west", addr), Port: 15008}), serves("cart", 80, 8080))
	}
	local := func(name, addr string) *mesh.Workload { return podWorkload(name, addr, serves("cart", 80, 8080)) }
	for name, first := range map[string]*mesh.Workload{
		"after another one of these": nowhere("cart-a", "192.0.2.1"),
		"after one that refuses":     local("cart-a", "10.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSearcher(shopService("cart", "10.96.0.1"), first, nowhere("cart-b", "192.0.2.2"), local("cart-c", "10.0.0.3"))
				s.behave[tunnel("10.0.0.1")] = closedPort
				d, refusal := s.connect(t.Context(), "10.96.0.1:80")
				if d == nil || len(s.dialled) == 0 || s.dialled[len(s.dialled)-1] != "10.0.0.3" {
					t.Fatalf("dialled %v, %v", s.dialled, refusal)
				}
				if !slices.Contains(s.failures, ReasonNoGateway) {
					t.Errorf("failures told: %v", s.failures)
				}
			})
		})
	}
}
