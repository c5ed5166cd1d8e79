// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func policy(name string, action mesh.PolicyAction, matches ...mesh.PolicyMatch) *mesh.Policy {
	return &mesh.Policy{Namespace: "shop", Name: name, Action: action, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: matches}}}}}
}

func identity(namespace, account string) mesh.Identity {
	return mesh.Identity{TrustDomain: "cluster.local", Namespace: namespace, ServiceAccount: account}
}

func exact(values ...string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, v := range values {
		out = append(out, mesh.StringMatch{Value: v})
	}
	return out
}

func TestAuthorize(t *testing.T) {
	client := mesh.PolicyMatch{Principals: exact("cluster.local/ns/shop/sa/client")}
	other := mesh.PolicyMatch{Principals: exact("cluster.local/ns/shop/sa/other")}
	anybody := mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: mesh.MatchPresence}}}
	strict := mesh.PolicyMatch{NotPrincipals: []mesh.StringMatch{{Kind: mesh.MatchPresence}}}
	caller := Caller{
		Peer: identity("shop", "client"), Source: netip.MustParseAddr("10.0.0.2"), Destination: netip.MustParseAddrPort("10.0.0.1:8080"),
	}
	nobody := caller
	nobody.Peer = mesh.Identity{}
	dry := func(p *mesh.Policy) *mesh.Policy { p.DryRun = true; return p }

	for _, tc := range []struct {
		name     string
		policies []*mesh.Policy
		caller   Caller
		want     bool
		by       string
		// dry is the verdict with policies in dry run, if it is another one.
		dry string
	}{
		{name: "no policy", caller: caller, want: true},
		{name: "allowed", policies: []*mesh.Policy{policy("a", mesh.Allow, other), policy("b", mesh.Allow, client)}, caller: caller, want: true, by: "shop/b"},
		{name: "no allow matches", policies: []*mesh.Policy{policy("a", mesh.Allow, other)}, caller: caller},
		{name: "deny beats allow", policies: []*mesh.Policy{policy("a", mesh.Allow, client), policy("d", mesh.Deny, client)}, caller: caller, by: "shop/d"},
		{name: "deny of others", policies: []*mesh.Policy{policy("d", mesh.Deny, other)}, caller: caller, want: true},
		{name: "strict lets tunnels in", policies: []*mesh.Policy{policy("strict", mesh.Deny, strict)}, caller: caller, want: true},
		{name: "strict refuses plaintext", policies: []*mesh.Policy{policy("strict", mesh.Deny, strict)}, caller: nobody, by: "shop/strict"},
		{name: "presence wants somebody", policies: []*mesh.Policy{policy("a", mesh.Allow, anybody)}, caller: nobody},
		{name: "presence has somebody", policies: []*mesh.Policy{policy("a", mesh.Allow, anybody)}, caller: caller, want: true, by: "shop/a"},
		{name: "an empty prefix does not match nobody", policies: []*mesh.Policy{policy("a", mesh.Allow, mesh.PolicyMatch{Namespaces: []mesh.StringMatch{{Kind: mesh.MatchPrefix}}})}, caller: nobody},
		{name: "allow without rules allows nobody", policies: []*mesh.Policy{{Namespace: "shop", Name: "none"}}, caller: caller},
		{name: "deny without rules denies nobody", policies: []*mesh.Policy{{Namespace: "shop", Name: "none", Action: mesh.Deny}}, caller: caller, want: true},
		{name: "a clause without matches holds", policies: []*mesh.Policy{policy("all", mesh.Deny)}, caller: caller, by: "shop/all"},
		{name: "a match without fields does not", policies: []*mesh.Policy{policy("empty", mesh.Deny, mesh.PolicyMatch{})}, caller: caller, want: true},
		{name: "a DENY in dry run only tells", policies: []*mesh.Policy{dry(policy("d", mesh.Deny, client)), dry(policy("a", mesh.Allow, other))}, caller: caller, want: true, dry: "denied by shop/d"},
		{name: "an ALLOW in dry run that would let nobody else in only tells", policies: []*mesh.Policy{dry(policy("a", mesh.Allow, other))}, caller: caller, want: true, dry: "denied by "},
		{name: "an ALLOW in dry run lets nobody in", policies: []*mesh.Policy{policy("a", mesh.Allow, other), dry(policy("b", mesh.Allow, client))}, caller: caller, dry: "allowed by shop/b"},
		{name: "a DENY in dry run that does not match", policies: []*mesh.Policy{dry(policy("d", mesh.Deny, other))}, caller: caller, want: true},
		{name: "an ALLOW in dry run beside one that matches", policies: []*mesh.Policy{policy("a", mesh.Allow, client), dry(policy("b", mesh.Allow, other))}, caller: caller, want: true, by: "shop/a"},
		{name: "a rule without clauses holds", policies: []*mesh.Policy{{Namespace: "shop", Name: "all", Rules: []mesh.PolicyRule{{}}}}, caller: nobody, want: true, by: "shop/all"},
		{
			name: "a match without fields beside one that holds is skipped", caller: caller, by: "shop/d",
			policies: []*mesh.Policy{policy("d", mesh.Deny, mesh.PolicyMatch{}, client)},
		},
		{
			name: "plaintext has no namespace, so it is none of those that are not meant", caller: nobody, by: "shop/d",
			policies: []*mesh.Policy{policy("d", mesh.Deny, mesh.PolicyMatch{NotNamespaces: exact("shop")})},
		},
		{
			name: "plaintext has no account", caller: nobody, by: "shop/d",
			policies: []*mesh.Policy{policy("d", mesh.Deny, mesh.PolicyMatch{NotServiceAccounts: []mesh.ServiceAccountMatch{{}}})},
		},
		{
			name: "one kind's positive and its negative", caller: caller, want: true, // not denied
			policies: []*mesh.Policy{policy("d", mesh.Deny, mesh.PolicyMatch{SourceIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, NotSourceIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}})},
		},
		{name: "the first that matches is named", policies: []*mesh.Policy{policy("b", mesh.Deny, client), policy("c", mesh.Deny, client)}, caller: caller, by: "shop/b"},
		{
			name: "clauses are ANDed", caller: caller, want: true,
			policies: []*mesh.Policy{{Namespace: "shop", Name: "both", Action: mesh.Deny, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{
				{Matches: []mesh.PolicyMatch{client}}, {Matches: []mesh.PolicyMatch{{DestinationPorts: []uint16{9999}}}},
			}}}}},
		},
		{
			name: "rules are ORed", caller: caller, by: "shop/either",
			policies: []*mesh.Policy{{Namespace: "shop", Name: "either", Action: mesh.Deny, Rules: []mesh.PolicyRule{
				{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{other}}}}, {Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{client}}}},
			}}},
		},
	} {
		for how, got := range map[string]Verdict{"Authorize": Authorize(tc.policies, tc.caller), "Judge": Judge([]*Index{nil, NewIndex(tc.policies)}, tc.caller)} {
			dry := ""
			if got.DryAllowed != got.Allowed {
				dry = map[bool]string{true: "allowed by ", false: "denied by "}[got.DryAllowed] + got.DryPolicy
			}
			if got.Allowed != tc.want || got.Policy != tc.by || dry != tc.dry {
				t.Errorf("%s: %s: %+v, want %v by %q, in dry run %q", tc.name, how, got, tc.want, tc.by, tc.dry)
			}
		}
	}
}

func TestMatchFields(t *testing.T) {
	caller := Caller{Peer: identity("shop", "client"), Source: netip.MustParseAddr("::ffff:10.0.0.2"), Destination: netip.MustParseAddrPort("10.0.0.1:8080")}
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	account := func(ns, sa string) []mesh.ServiceAccountMatch {
		return []mesh.ServiceAccountMatch{{Namespace: ns, ServiceAccount: sa}}
	}
	for _, tc := range []struct {
		name  string
		match mesh.PolicyMatch
		want  bool
	}{
		{"namespace", mesh.PolicyMatch{Namespaces: exact("x", "shop")}, true},
		{"other namespace", mesh.PolicyMatch{Namespaces: exact("x")}, false},
		{"not namespace", mesh.PolicyMatch{NotNamespaces: exact("shop")}, false},
		{"not other namespace", mesh.PolicyMatch{NotNamespaces: exact("x")}, true},
		{"principal prefix", mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: "cluster.local/ns/shop/"}}}, true},
		{"principal suffix", mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: mesh.MatchSuffix, Value: "/sa/client"}}}, true},
		{"principal with a scheme", mesh.PolicyMatch{Principals: exact("spiffe://cluster.local/ns/shop/sa/client")}, false},
		{"unknown kind", mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: 99, Value: "cluster.local/ns/shop/sa/client"}}}, false},
		{"service account", mesh.PolicyMatch{ServiceAccounts: account("shop", "client")}, true},
		{"not service account", mesh.PolicyMatch{NotServiceAccounts: account("shop", "client")}, false},
		{"source", mesh.PolicyMatch{SourceIPs: prefix("10.0.0.0/24")}, true},
		{"source, host bits set", mesh.PolicyMatch{SourceIPs: prefix("10.0.0.99/24")}, true},
		{"source of another family", mesh.PolicyMatch{SourceIPs: prefix("::/0")}, false},
		{"any source", mesh.PolicyMatch{SourceIPs: prefix("0.0.0.0/0")}, true},
		{"other destination", mesh.PolicyMatch{DestinationIPs: prefix("10.0.0.2/32")}, false},
		{"other service account", mesh.PolicyMatch{ServiceAccounts: account("shop", "other")}, false},
		{"service account of another namespace", mesh.PolicyMatch{ServiceAccounts: account("demo", "client")}, false},
		{"not other service account", mesh.PolicyMatch{NotServiceAccounts: account("demo", "client")}, true},
		{"principal of another trust domain", mesh.PolicyMatch{Principals: exact("other/ns/shop/sa/client")}, false},
		{"not principal prefix", mesh.PolicyMatch{NotPrincipals: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: "cluster.local/"}}}, false},
		{"principal present", mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: mesh.MatchPresence}}}, true},
		{"not other port", mesh.PolicyMatch{NotDestinationPorts: []uint16{80}}, true},
		{"one of two negatives", mesh.PolicyMatch{NotNamespaces: exact("x", "shop")}, false},
		{"other source", mesh.PolicyMatch{SourceIPs: prefix("10.9.0.0/24")}, false},
		{"not source", mesh.PolicyMatch{NotSourceIPs: prefix("10.0.0.2/32")}, false},
		{"destination", mesh.PolicyMatch{DestinationIPs: prefix("10.0.0.1/32")}, true},
		{"not destination", mesh.PolicyMatch{NotDestinationIPs: prefix("10.0.0.1/32")}, false},
		{"port", mesh.PolicyMatch{DestinationPorts: []uint16{80, 8080}}, true},
		{"tunnel's port", mesh.PolicyMatch{DestinationPorts: []uint16{15008}}, false},
		{"not port", mesh.PolicyMatch{NotDestinationPorts: []uint16{8080}}, false},
		{"all kinds must hold", mesh.PolicyMatch{Namespaces: exact("shop"), DestinationPorts: []uint16{1}}, false},
		{"positive and negative", mesh.PolicyMatch{Namespaces: exact("shop"), NotPrincipals: exact("cluster.local/ns/shop/sa/client")}, false},
	} {
		s := subjectOf(caller)
		if got := holds(&tc.match, &s); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// TestZonesHideNothing: the zone of a link-local address says by which device it is reached, and a CIDR has none.
func TestZonesHideNothing(t *testing.T) {
	s := subjectOf(Caller{Source: netip.MustParseAddr("fe80::1%eth0"), Destination: netip.MustParseAddrPort("[fe80::2%eth0]:80")})
	local := []netip.Prefix{netip.MustParsePrefix("fe80::/10")}
	if !holds(&mesh.PolicyMatch{SourceIPs: local, DestinationIPs: local}, &s) || holds(&mesh.PolicyMatch{NotSourceIPs: local}, &s) {
		t.Errorf("%v to %v is not seen to be link-local", s.source, s.dest)
	}
}
