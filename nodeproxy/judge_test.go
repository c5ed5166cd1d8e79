// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/shop"
)

func policyView(policies []*mesh.Policy) *directory.View {
	d := mesh.Delta{Policies: map[string]*mesh.Policy{}}
	for _, p := range policies {
		d.Policies[p.Key()] = p
	}
	return directory.NewLive().Apply(d)
}

// policyMaker makes random policies of few values, so that much matches.
type policyMaker struct{ *rand.Rand }

func (r policyMaker) texts(words ...string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for r.IntN(3) == 0 {
		word := words[r.IntN(len(words))]
		switch m := (mesh.StringMatch{Kind: mesh.StringMatchKind(r.IntN(5)), Value: word}); m.Kind {
		case mesh.MatchPrefix:
			m.Value = word[:r.IntN(len(word)+1)]
			out = append(out, m)
		case mesh.MatchSuffix:
			m.Value = word[r.IntN(len(word)+1):]
			out = append(out, m)
		default:
			out = append(out, m)
		}
	}
	return out
}

func (r policyMaker) ranges() []netip.Prefix {
	var out []netip.Prefix
	for r.IntN(4) == 0 {
		if r.IntN(4) == 0 {
			out = append(out, netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd00::%d", r.IntN(4))), 126+r.IntN(3)))
			continue
		}
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))}), []int{0, 8, 30, 31, 32}[r.IntN(5)]))
	}
	return out
}

func (r policyMaker) ports() []uint16 {
	var out []uint16
	for r.IntN(4) == 0 {
		out = append(out, uint16(80+r.IntN(3)))
	}
	return out
}

func (r policyMaker) accounts() []mesh.ServiceAccountMatch {
	var out []mesh.ServiceAccountMatch
	for r.IntN(5) == 0 {
		out = append(out, mesh.ServiceAccountMatch{Namespace: []string{"shop", "demo"}[r.IntN(2)], ServiceAccount: []string{"a", "b"}[r.IntN(2)]})
	}
	return out
}

func (r policyMaker) match() mesh.PolicyMatch {
	principals := []string{"cluster.local/ns/shop/sa/a", "cluster.local/ns/demo/sa/b", "other/ns/shop/sa/a"}
	m := mesh.PolicyMatch{
		Namespaces: r.texts("shop", "demo"), Principals: r.texts(principals...), ServiceAccounts: r.accounts(),
		SourceIPs: r.ranges(), DestinationIPs: r.ranges(), DestinationPorts: r.ports(),
	}
	if r.IntN(2) == 0 {
		m.NotNamespaces, m.NotPrincipals, m.NotServiceAccounts = r.texts("shop", "demo"), r.texts(principals...), r.accounts()
		m.NotSourceIPs, m.NotDestinationIPs, m.NotDestinationPorts = r.ranges(), r.ranges(), r.ports()
	}
	return m
}

func (r policyMaker) policy(name string) *mesh.Policy {
	p := &mesh.Policy{
		Name: name, Namespace: []string{"shop", "demo"}[r.IntN(2)], Scope: mesh.PolicyScope(r.IntN(3)), Action: mesh.PolicyAction(r.IntN(2)), DryRun: r.IntN(4) == 0,
	}
	for r.IntN(3) > 0 {
		var rule mesh.PolicyRule
		for r.IntN(2) == 0 {
			var clause mesh.PolicyClause
			for r.IntN(3) > 0 {
				clause.Matches = append(clause.Matches, r.match())
			}
			rule.Clauses = append(rule.Clauses, clause)
		}
		p.Rules = append(p.Rules, rule)
	}
	return p
}

func (r policyMaker) caller() authz.Caller {
	c := authz.Caller{
		Source:      netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(5))}),
		Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(3))}), uint16(80+r.IntN(4))),
	}
	switch r.IntN(4) {
	case 0:
		c.Source = netip.MustParseAddr(fmt.Sprintf("fd00::%d%s", r.IntN(5), []string{"", "%eth0"}[r.IntN(2)]))
	case 1:
		c.Source = netip.AddrFrom16(c.Source.As16())
	}
	if r.IntN(4) > 0 {
		c.Peer = mesh.Identity{TrustDomain: []string{"cluster.local", "other"}[r.IntN(2)], Namespace: []string{"shop", "demo", "x"}[r.IntN(3)], ServiceAccount: []string{"a", "b"}[r.IntN(2)]}
	}
	return c
}

// TestJudgeIsAuthorize compares both over random policies that come, change and go, with one Judge for all of them.
func TestJudgeIsAuthorize(t *testing.T) {
	r := policyMaker{rand.New(rand.NewPCG(3, 4))}
	live, judge := directory.NewLive(), NewJudge(logr.Discard())
	pods := []*mesh.Workload{shop.Pod("a", "10.0.0.1"), shop.Pod("b", "10.0.0.2"), shop.Pod("c", "10.0.0.3")}
	for i, ns := range []string{"shop", "demo", "shop"} {
		pods[i].Namespace = ns
	}
	allowed, denied, dry := 0, 0, 0
	for range 400 {
		d := mesh.Delta{Policies: map[string]*mesh.Policy{}}
		for range r.IntN(4) { // or none: then a pod's list of names may be all that changes
			p := r.policy(fmt.Sprint("p", r.IntN(8)))
			if d.Policies[p.Key()] = p; r.IntN(3) == 0 {
				d.Policies[p.Key()] = nil
			}
		}
		v := live.Apply(d)
		if i := r.IntN(3); r.IntN(2) == 0 {
			changed := *pods[i]
			changed.Policies = nil
			for range r.IntN(4) {
				changed.Policies = append(changed.Policies, fmt.Sprintf("%s/p%d", []string{"shop", "demo"}[r.IntN(2)], r.IntN(8)))
			}
			pods[i] = &changed
		}
		for range 30 {
			self, c := pods[r.IntN(3)], r.caller()
			got, want := judge.Authorize(v, self, c), authz.Authorize(v.PoliciesFor(self), c)
			if got != want {
				t.Fatalf("%+v: Judge says %+v, Authorize %+v", c, got, want)
			}
			switch {
			case want.DryAllowed != want.Allowed:
				dry++
			case want.Policy != "" && want.Allowed:
				allowed++
			case want.Policy != "":
				denied++
			}
		}
	}
	if min(allowed, denied, dry) < 500 {
		t.Errorf("the policies say too little: %d allowed, %d denied, %d otherwise in dry run", allowed, denied, dry)
	}
}

// TestJudgeIsBounded has more namespaces and pods judged than a Judge keeps.
func TestJudgeIsBounded(t *testing.T) {
	const n = maxJudgeEntries + 10
	named := &mesh.Policy{Namespace: "shop", Name: "named", Scope: mesh.PolicyWorkloads, Action: mesh.Deny, Rules: []mesh.PolicyRule{{}}}
	policies := []*mesh.Policy{named}
	for i := range n {
		policies = append(policies, &mesh.Policy{Namespace: fmt.Sprint("ns-", i), Name: "p", Scope: mesh.PolicyNamespace, Rules: []mesh.PolicyRule{{}}})
	}
	v, judge := policyView(policies), NewJudge(logr.Discard())
	for i := range n {
		w := shop.Pod(fmt.Sprint("pod-", i), "10.0.0.1")
		w.Namespace, w.Policies = fmt.Sprint("ns-", i), []string{named.Key()}
		if got := judge.Authorize(v, w, authz.Caller{}); got.Policy != named.Key() {
			t.Fatalf("%+v", got)
		}
	}
	if len(judge.scopes) > maxJudgeEntries || len(judge.named) > maxJudgeEntries {
		t.Errorf("%d namespaces and %d pods are kept", len(judge.scopes), len(judge.named))
	}
}

// manyPolicies are n that could each apply to everything in the namespace, and a caller that only the last one lets in.
func manyPolicies(n int) (*directory.View, *mesh.Workload, authz.Caller) {
	policy := func(name string, action mesh.PolicyAction, principal string) *mesh.Policy {
		return &mesh.Policy{Namespace: "shop", Name: name, Scope: mesh.PolicyNamespace, Action: action, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{
			Matches: []mesh.PolicyMatch{{Principals: []mesh.StringMatch{{Value: principal}}}},
		}}}}}
	}
	var policies []*mesh.Policy
	for i := range n - 1 {
		action := mesh.Allow
		if i%2 == 0 {
			action = mesh.Deny
		}
		policies = append(policies, policy(fmt.Sprint("p", i), action, fmt.Sprintf("cluster.local/ns/team-%d/sa/app", i)))
	}
	policies = append(policies, policy("z", mesh.Allow, "cluster.local/ns/shop/sa/client"))
	return policyView(policies), shop.Pod("cart", "10.0.0.1"), authz.Caller{
		Peer: identity("shop", "client"), Source: netip.MustParseAddr("10.0.0.2"), Destination: netip.MustParseAddrPort("10.0.0.1:8080"),
	}
}

func BenchmarkJudgeAmong10000(b *testing.B) {
	v, self, c := manyPolicies(10000)
	judge := NewJudge(logr.Discard())
	if got := judge.Authorize(v, self, c); !got.Allowed || got.Policy != "shop/z" {
		b.Fatalf("%+v", got)
	}
	b.ReportAllocs()
	for b.Loop() {
		judge.Authorize(v, self, c)
	}
}
