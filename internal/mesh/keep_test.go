// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"fmt"
	"reflect"
	"testing"
)

func keepable() *Gateway {
	policies := func(value string) []*Policy {
		return []*Policy{{Name: "a", Namespace: "shop", Rules: []PolicyRule{{Clauses: []PolicyClause{{Matches: []PolicyMatch{
			{Request: &RequestMatch{Paths: []StringMatch{{Value: value}}}}}}}}}}}
	}
	return &Gateway{Name: "g", Policies: policies("/of-all"), ServicePolicies: []ServicePolicies{
		{Service: ServiceKey{"shop", "cart"}, Policies: policies("/cart")}, {Service: ServiceKey{"shop", "till"}, Policies: policies("/till")}}}
}

// Lists that say the same are the former ones, however deep a difference is.
func TestGatewayKeeping(t *testing.T) {
	was, g := keepable(), keepable()
	if g.Keeping(nil) != g {
		t.Error("something is kept of nothing")
	}
	got := g.Keeping(was)
	if !reflect.DeepEqual(got, g) || !SamePolicies(got.Policies, was.Policies) || !SamePolicies(got.ServicePolicies[0].Policies, was.ServicePolicies[0].Policies) {
		t.Errorf("not kept: %+v", got)
	}
	if SamePolicies(g.Policies, was.Policies) || SamePolicies(g.ServicePolicies[1].Policies, was.ServicePolicies[1].Policies) {
		t.Error("what was given is changed")
	}
	g = keepable()
	g.ServicePolicies[1].Policies[0].Rules[0].Clauses[0].Matches[0].Request.Paths[0].Kind = MatchPrefix
	got = g.Keeping(was)
	if !reflect.DeepEqual(got, g) || SamePolicies(got.ServicePolicies[1].Policies, was.ServicePolicies[1].Policies) || !SamePolicies(got.ServicePolicies[0].Policies, was.ServicePolicies[0].Policies) {
		t.Errorf("of what differs: %+v", got)
	}
	g.Policies, g.ServicePolicies = nil, g.ServicePolicies[1:]
	if got = g.Keeping(was); got != g {
		t.Errorf("nothing is to be kept: %+v", got)
	}
	if !SamePolicies(nil, []*Policy{}) || SamePolicies(was.Policies, nil) {
		t.Error("of empty lists")
	}
}

func BenchmarkGatewayKeeping(b *testing.B) {
	load := func() *Gateway {
		g := keepable()
		for i := range 100_000 {
			m := &g.Policies[0].Rules[0].Clauses[0].Matches[0].Request.Paths
			*m = append(*m, StringMatch{Value: fmt.Sprintf("/some/path/of/middling/length/%d", i)})
		}
		return g
	}
	was, g := load(), load()
	for b.Loop() {
		g.Keeping(was)
	}
}
