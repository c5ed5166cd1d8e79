// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestPrincipalsUnderEachName has a policy speak of our trust domain by one of its names, of another one, and of any.
func TestPrincipalsUnderEachName(t *testing.T) {
	config := testConfig
	config.TrustDomainAliases = []string{"a.example", "b.example"}
	for _, tc := range []struct {
		source world.PolicySource
		want   string
	}{
		{world.PolicySource{Principals: []string{"cluster.local/ns/x/sa/y"}},
			"Principals[{0 cluster.local/ns/x/sa/y} {0 a.example/ns/x/sa/y} {0 b.example/ns/x/sa/y}]"},
		{world.PolicySource{Principals: []string{"b.example/ns/x/*", "b.example/ns/x/*"}},
			"Principals[{1 cluster.local/ns/x/} {1 a.example/ns/x/} {1 b.example/ns/x/}]"},
		{world.PolicySource{NotPrincipals: []string{"a.example/*"}}, "NotPrincipals[{1 cluster.local/} {1 a.example/} {1 b.example/}]"},
		{world.PolicySource{Principals: []string{"else.example/ns/x/sa/y", "*/sa/y", "*"}}, "Principals[{0 else.example/ns/x/sa/y} {2 /sa/y} {3 }]"},
		{world.PolicySource{TrustDomains: []string{"cluster.local"}}, "Principals[{1 cluster.local/} {1 a.example/} {1 b.example/}]"},
		{world.PolicySource{NotTrustDomains: []string{"b.example", "else.example"}},
			"NotPrincipals[{1 cluster.local/} {1 a.example/} {1 b.example/} {1 else.example/}]"},
		{world.PolicySource{TrustDomains: []string{"a.example"}, Principals: []string{"cluster.local/ns/x/sa/y", "else.example/ns/x/sa/y"}},
			"Principals[{0 cluster.local/ns/x/sa/y} {0 a.example/ns/x/sa/y} {0 b.example/ns/x/sa/y}]"},
	} {
		state := world.NewState()
		p := &world.AuthorizationPolicy{Key: world.Key{Cluster: "east", Namespace: "demo", Name: "p"}, Action: "ALLOW", Rules: []world.PolicyRule{{From: []world.PolicySource{tc.source}}}}
		state.AuthorizationPolicies[p.Key] = p
		got := strings.TrimSpace(printMesh(Build(state, config)))
		if want := "policy   demo/p namespace allow rule(" + tc.want + ")"; got != want {
			t.Errorf("%+v:\ngot  %s\nwant %s", tc.source, got, want)
		}
	}
	state := world.NewState()
	p := &world.AuthorizationPolicy{Key: world.Key{Cluster: "east", Namespace: "demo", Name: "p"}, Action: "ALLOW",
		Rules: []world.PolicyRule{{When: []world.PolicyCondition{{Key: "source.principal", Values: []string{"a.example/ns/x/sa/y"}}}}}}
	state.AuthorizationPolicies[p.Key] = p
	if got := printMesh(Build(state, config)); !strings.Contains(got, "{0 cluster.local/ns/x/sa/y} {0 a.example/ns/x/sa/y} {0 b.example/ns/x/sa/y}") {
		t.Errorf("a condition: %s", got)
	}
}
