// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxGatewayCAs is how many bytes of CA certificates one Gateway is told of, in all. What a gateway takes in one answer is 200 MiB, and beyond that it would be told of no changes at all.
const maxGatewayCAs = 64 << 20

// tlsInForce is how a Gateway speaks to a port of a Service, by a policy.
type tlsInForce struct {
	mesh.BackendTLS
	by *world.BackendTLSPolicy
}

// boundCAs leaves the CAs out of what is too much for one Gateway, so that those backends, and no others, are not connected to, and gives the policies that they are of. Each namespace of policies, which is that of
// their Services, has a share, and those that want less leave the rest to the others: nobody can take any of it from somebody else. In it the oldest policies come first.
func boundCAs(all []tlsInForce, most int) (crowded set[world.Key]) {
	wanted := map[string]int{}
	for i := range all {
		wanted[all[i].by.Namespace] += len(all[i].CAs)
	}
	share := fairShare(slices.Collect(maps.Values(wanted)), most)
	if share == 0 {
		return nil
	}
	order := make([]int, 0, len(all))
	for i := range all {
		if wanted[all[i].by.Namespace] > share {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := all[i].by, all[j].by
		return cmp.Or(cmp.Compare(a.Created, b.Created), a.Key.Compare(b.Key))
	})
	crowded, mine := set[world.Key]{}, map[string]int{}
	for _, i := range order {
		of := &all[i]
		if load := len(of.CAs); mine[of.by.Namespace]+load <= share {
			mine[of.by.Namespace] += load
			continue
		}
		of.BackendTLS = mesh.BackendTLS{Service: of.Service, Port: of.Port, Problem: shorten(tooManyCAs(of.by.Namespace))}
		crowded.add(of.by.Key)
	}
	return crowded
}

func tooManyCAs(namespace string) string {
	return fmt.Sprintf("the CA certificates of all BackendTLSPolicies that this Gateway reaches, for each port of each Service, are more than %d MiB, and those of namespace %s more than its share", maxGatewayCAs>>20, namespace)
}
