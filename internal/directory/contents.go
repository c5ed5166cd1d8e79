// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"iter"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Workloads gives all workloads, in no order.
func (v *View) Workloads() iter.Seq[*mesh.Workload] { return values(v.workloads) }

// Former gives the workloads of an earlier view that are others in this one, or none, in no order. It looks at what changed, and hardly at the rest.
func (v *View) Former(before *View) iter.Seq[*mesh.Workload] {
	return func(yield func(*mesh.Workload) bool) {
		before.workloads.unlike(v.workloads, func(uid string, was *mesh.Workload) bool {
			return v.Workload(uid) == was || yield(was)
		})
	}
}

// Services gives all services, in no order.
func (v *View) Services() iter.Seq[*mesh.Service] { return values(v.services) }

// Policies gives all policies, in no order.
func (v *View) Policies() iter.Seq[*mesh.Policy] { return values(v.policies) }

func values[K comparable, V any](x index[K, V]) iter.Seq[V] {
	return func(yield func(V) bool) { x.each(func(_ K, v V) bool { return yield(v) }) }
}

// Gateways are all configurations of gateways, in no order.
func (v *View) Gateways() iter.Seq[*mesh.Gateway] { return values(v.gateways) }
