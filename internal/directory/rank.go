// SPDX-License-Identifier: Apache-2.0

package directory

import "github.com/isthmus-mesh/isthmus/internal/mesh"

// Rank says how well an endpoint fits what a service prefers, as seen by a client in a network: larger is better. What a service insists on
// (mesh.BalanceStrict) is no preference: all endpoints have the same rank then, for whoever chose the service chose by it already. The
// client may be nil, which is near nothing but its network.
func Rank(s *mesh.Service, network string, client, w *mesh.Workload) int {
	if s.Balance.Mode != mesh.BalanceFailover {
		return 0
	}
	want := Want{Network: network, Client: client, Service: s}
	return want.rank(w)
}
