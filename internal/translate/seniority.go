// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"math"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Where clusters contradict each other, our own one is believed before any other, and of others the one that our operator linked first. It is an order
// that no cluster can choose for itself: nothing that it says is asked.

// compareClusters orders clusters by who is believed first: our own one, then by the age of their RemoteClusters, then by id.
func (x *index) compareClusters(a, b world.Cluster) int {
	return cmp.Or(cmp.Compare(x.linked(a), x.linked(b)), cmp.Compare(a, b))
}

// linked is since when a cluster is linked, in Unix seconds. One whose RemoteCluster does not say so, or is still to be made, comes last.
func (x *index) linked(c world.Cluster) int64 {
	if c == x.config.LocalCluster {
		return math.MinInt64
	}
	if l := x.limits[c]; l != nil && l.Created != 0 {
		return l.Created
	}
	return math.MaxInt64
}

// compareDefinitions orders definitions of one service by whose cluster is believed first.
func (x *index) compareDefinitions(a, b *world.Service) int {
	return x.compareClusters(a.Cluster, b.Cluster)
}

// rivalsOf notes the pods of other clusters that claim the same addresses as those of a cluster, which is believed earlier or later than before.
func (t *touched) rivalsOf(x *index, c world.Cluster) {
	for namespace, pods := range x.podsIn {
		if namespace.Cluster != c {
			continue
		}
		for name := range pods {
			for _, a := range x.claims.by[namespace.In(namespace.Name, name)].addrs {
				t.claimants(x, c, a)
			}
		}
	}
}

// comparePaths orders what is equally old as the Gateway API has it: by "namespace/name", as if they were joined. Thousands of routes are sorted for each change of one, so that they are not.
func comparePaths(namespaceA, nameA, namespaceB, nameB string) int {
	both := min(len(namespaceA), len(namespaceB))
	if c := strings.Compare(namespaceA[:both], namespaceB[:both]); c != 0 {
		return c
	}
	switch { // the shorter one's "/" stands against what the longer one goes on with
	case len(namespaceA) < len(namespaceB):
		return cmp.Compare('/', namespaceB[both])
	case len(namespaceA) > len(namespaceB):
		return cmp.Compare(namespaceA[both], '/')
	}
	return strings.Compare(nameA, nameB)
}
