// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"slices"
	"strings"
)

// headerGone, in a 200, lists endpoints of x-isthmus-avoid that are none, are not ready, or are farther than the one that was dialled: a client that reaches them knows to leave.
const headerGone = "x-isthmus-gone"

// gone gives the names in avoid that no candidate has of this rank or a better one, as the value of x-isthmus-gone: who has come to farther ones while those that are near were away would else
// stay there.
func (b *balancer) gone(network string, candidates []candidate, rank int, avoid map[string]struct{}) string {
	if len(avoid) == 0 {
		return ""
	}
	there := make(map[string]struct{}, len(candidates))
	b.mu.Lock()
	for _, c := range candidates {
		if c.rank < rank {
			continue
		}
		if s := b.known[c.uid]; s != nil {
			there[s.id] = struct{}{}
		} else {
			there[endpointID(network, c.uid)] = struct{}{}
		}
	}
	b.mu.Unlock()
	missing := slices.DeleteFunc(slices.Sorted(maps.Keys(avoid)), func(id string) bool { _, ok := there[id]; return ok })
	return strings.Join(missing, ",")
}
