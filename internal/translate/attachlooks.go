// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxLooks is at how many listeners of all Gateways the routes of one namespace are looked for whenever listeners change, and attached for each change of any route: some 20 ms each.
// 2,000 routes with all of 100 listeners as their parents are as many; one that names its listener is looked for at that alone.
const maxLooks = 200_000

// looksOf is at how many listeners of a gate a route is looked for by one of its parents.
func (g *gate) looksOf(ref world.ObjectRef, p world.RouteParent) int {
	if p.Section != "" {
		return 1 // its name is all that is compared with others
	}
	of := g.homes[world.ObjectRef{Kind: world.Kind(p.Kind), Key: ref.In(p.Namespace, p.Name)}]
	return of.to - of.from
}

// boundLooks finds the routes that are not looked for at a gate, as those of their namespace would be at more listeners than x.maxLooks, of all Gateways together, as all are looked at for
// each change: its youngest. No namespace takes anything from another one.
func (x *index) boundLooks(all []*applicant) {
	taken, why := map[string]int{}, map[string]string{}
	for _, a := range all {
		namespace := a.ref.Namespace
		for i := range a.stays {
			s := &a.stays[i]
			if taken[namespace]+s.looks <= x.maxLooks {
				taken[namespace] += s.looks
				continue
			}
			if why[namespace] == "" {
				why[namespace] = fmt.Sprintf("the routes of namespace %s would be looked for at more than %d listeners of Gateways, each route at all that its parents have and match by no sectionName: the oldest are, which this one is not among",
					namespace, x.maxLooks)
			}
			s.unlooked = why[namespace]
		}
	}
}
