// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

// TestPlansSayHowManyAreBehindTheGateways: by all that lead to the service in that network, for a change may show in what stands for the others alone.
func TestPlansSayHowManyAreBehindTheGateways(t *testing.T) {
	first, firstHost := westGate("203.0.113.1")
	second, secondHost := westGate("203.0.113.2")
	third, thirdHost := westGate("203.0.113.3")
	weighs := func(n uint32) func(*mesh.Workload) { return func(w *mesh.Workload) { w.Capacity = n } }
	for _, parts := range [][2]uint32{{2, 1}, {2, 2}} {
		service := shop.Service("cart", "10.96.0.1")
		from := From{Network: "east", Choice: Choice{Random: func(uint64) uint64 { return 0 }}, View: shop.View(
			service, shop.Service("pay", "10.96.0.2"), firstHost, secondHost, thirdHost, shop.Pod("cart-0", "10.0.0.1", shop.Serves("cart", 80, 8080), weighs(0)),
			shop.Pod("cart-1", "", shop.Behind(first), shop.Serves("cart", 80, 0), weighs(parts[0])), shop.Pod("cart-2", "", shop.Behind(second), shop.Serves("cart", 80, 0), weighs(parts[1])),
			shop.Pod("cart-3", "", shop.Behind(third), shop.InNetwork("north"), shop.Serves("cart", 80, 0), weighs(7)), shop.Pod("pay-1", "", shop.Behind(first), shop.Serves("pay", 80, 0), weighs(9)),
		)}
		plan, refusal := from.Service(service, 80)
		if refusal != nil || plan.Via != DoubleHBONE || plan.Behind != parts[0]+parts[1] {
			t.Errorf("with %v: %v by %v, %d behind", parts, refusal, plan.Via, plan.Behind)
		}
	}
}
