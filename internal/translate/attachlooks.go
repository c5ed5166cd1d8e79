// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxLooks is at how many listeners of one Gateway the routes of one namespace are looked for whenever listeners change, and attached for each change of any route: some 20 ms each.
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

// boundLooks finds the routes that are not looked for at a gate, as those of their namespace would be at more listeners than x.maxLooks: its youngest. No namespace takes anything
// from another one.
func (x *index) boundLooks(all []*applicant) {
	type tenant struct {
		gate      *gate
		namespace string
	}
	taken, why := map[tenant]int{}, map[tenant]string{}
	for _, a := range all {
		for i := range a.stays {
			s := &a.stays[i]
			t := tenant{s.gate, a.ref.Namespace}
			if taken[t]+s.looks <= x.maxLooks {
				taken[t] += s.looks
				continue
			}
			if why[t] == "" {
				why[t] = fmt.Sprintf("the routes of namespace %s would be looked for at more than %d listeners of Gateway %s/%s, each route at all that its parents have there and match by no sectionName: the oldest are, which this one is not among",
					t.namespace, x.maxLooks, s.gateway.Namespace, s.gateway.Name)
			}
			s.unlooked = why[t]
		}
	}
}
