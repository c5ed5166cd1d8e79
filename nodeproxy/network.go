// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// networkOf is the network that a pod of this proxy is on: what the control plane says of it, for a cluster may have pods on several, or else the
// proxy's own, also for a pod that is not known (nil).
func (x *Proxy) networkOf(w *mesh.Workload) string {
	if w == nil {
		return x.o.Network
	}
	return cmp.Or(w.Network, x.o.Network)
}
