// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"reflect"
	"slices"
)

// Keeping gives g with those lists of policies that are the same in was taken from there: whoever knows was sees by where they are that they did not change (SamePolicies), and
// nobody has them twice. It is g itself if there are none. Neither is changed.
func (g *Gateway) Keeping(was *Gateway) *Gateway {
	if was == nil {
		return g
	}
	before := make(map[ServiceKey][]*Policy, len(was.ServicePolicies))
	for _, of := range was.ServicePolicies {
		before[of.Service] = of.Policies
	}
	out, kept := *g, false
	keep := func(list *[]*Policy, before []*Policy) {
		if len(before) > 0 && reflect.DeepEqual(*list, before) {
			*list, kept = before, true
		}
	}
	keep(&out.Policies, was.Policies)
	out.ServicePolicies = slices.Clone(g.ServicePolicies)
	for i := range out.ServicePolicies {
		of := &out.ServicePolicies[i]
		keep(&of.Policies, before[of.Service])
	}
	if !kept {
		return g
	}
	return &out
}

// SamePolicies says whether two lists are one, or both empty, without a look at what is in them.
func SamePolicies(a, b []*Policy) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }
