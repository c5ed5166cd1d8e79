// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// manyPrincipals is a policy that asks for one of some principals in one of some trust domains, as whoever may write policies in a namespace may.
func manyPrincipals(action string, principals, domains int, name func(i int) string) *world.AuthorizationPolicy {
	source := world.PolicySource{}
	for i := range principals {
		source.Principals = append(source.Principals, name(i))
	}
	for i := range domains {
		source.TrustDomains = append(source.TrustDomains, fmt.Sprintf("d%d.example", i))
	}
	return &world.AuthorizationPolicy{
		Key: world.Key{Cluster: "east", Namespace: "demo", Name: "many"}, Action: action, Selector: map[string]string{"app": "x"},
		Rules: []world.PolicyRule{{From: []world.PolicySource{source}}},
	}
}

// TestPoliciesCostWhatTheyHold: one policy must not keep the engine from everything else, whatever it joins. It is held against itself without anything to join.
func TestPoliciesCostWhatTheyHold(t *testing.T) {
	aliases := testConfig
	for i := range 3 {
		aliases.TrustDomainAliases = append(aliases.TrustDomainAliases, fmt.Sprintf("alias%d.example", i))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, tc := range []struct {
		what   string
		config world.Config
		name   func(i int) string
	}{
		{"principals of the domains", testConfig, func(i int) string { return fmt.Sprintf("d%d.example/ns/n/sa/a%d", i%59, i) }},
		{"principals of others", testConfig, func(i int) string { return fmt.Sprintf("x.example/ns/n/sa/a%d", i) }},
		{"beginnings", testConfig, func(i int) string { return fmt.Sprintf("d%d.example/ns/n%d*", i%59, i) }},
		{"ends, which cannot be decided", testConfig, func(i int) string { return fmt.Sprintf("*/sa/a%d", i) }},
		{"principals of a domain with other names", aliases, func(i int) string { return fmt.Sprintf("cluster.local/ns/n/sa/a%d", i) }},
	} {
		principals := 20000
		if len(tc.config.TrustDomainAliases) > 0 {
			principals = 8000 // of four names each
		}
		cost := func(config world.Config, domains int) time.Duration {
			x, p, best := newIndex(config), manyPrincipals("ALLOW", principals, domains, tc.name), time.Hour
			for range 3 {
				begin := processorTime(t)
				x.compileAnew(p)
				best = min(best, processorTime(t)-begin)
			}
			return best
		}
		if alone, joined := cost(testConfig, 0), cost(tc.config, 59); joined > 60*alone+200*time.Millisecond { // seconds if each were held against each
			t.Errorf("%s: %d cost %s, and %s together with 59 trust domains", tc.what, principals, alone, joined)
		}
	}
}

// processorTime is what this thread has used of a processor: other programs on the machine do not count.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestPoliciesBeyondTheirBoundLetNobodyIn: what is not told must never let in more than was written, and what is said of it must be bounded, too.
func TestPoliciesBeyondTheirBoundLetNobodyIn(t *testing.T) {
	exact := func(i int) string { return fmt.Sprintf("d0.example/ns/n/sa/a%d", i) }
	for _, action := range []string{"ALLOW", "DENY"} {
		x := newIndex(testConfig)
		within := x.compileAnew(manyPrincipals(action, maxPolicyValues-10, 1, exact))
		if within.reason != "" || len(within.policy.Rules) != 1 || len(within.policy.Rules[0].Clauses[0].Matches[0].Principals) != maxPolicyValues-10 {
			t.Errorf("%s within the bound: %q %s", action, within.reason, within.message)
		}
		beyond := x.compileAnew(manyPrincipals(action, maxPolicyValues+1, 1, exact))
		want := map[string][]mesh.PolicyRule{"ALLOW": nil, "DENY": {{}}}[action]
		if beyond.reason != ReasonTooMany || !strings.Contains(beyond.message, "spec.rules") ||
			!slices.EqualFunc(beyond.policy.Rules, want, func(a, b mesh.PolicyRule) bool { return len(a.Clauses) == len(b.Clauses) }) {
			t.Errorf("%s beyond the bound: %q %s, %d rules", action, beyond.reason, beyond.message, len(beyond.policy.Rules))
		}
	}
	x := newIndex(testConfig)
	lost := x.compileAnew(manyPrincipals("DENY", 8000, 59, func(i int) string { return fmt.Sprintf("*/sa/a%d", i) }))
	if lost.reason != ReasonPartlyInForce || len(lost.message) > 10*maxMessage {
		t.Errorf("%q, and a message of %d bytes", lost.reason, len(lost.message))
	}
}
