// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestIndexLooksAtFewRules(t *testing.T) {
	var policies []*mesh.Policy
	for i := range 2000 {
		action := mesh.Allow
		if i%2 == 0 {
			action = mesh.Deny
		}
		policies = append(policies, policy(fmt.Sprint("p", i), action, mesh.PolicyMatch{Principals: exact(fmt.Sprintf("cluster.local/ns/team-%d/sa/app", i))}))
	}
	policies = append(policies, policy("z", mesh.Allow, mesh.PolicyMatch{Principals: exact("cluster.local/ns/shop/sa/client")}))
	x := newRuleIndex(policies)
	s := subjectOf(Caller{Peer: identity("shop", "client"), Source: netip.MustParseAddr("10.0.0.2"), Destination: netip.MustParseAddrPort("10.0.0.1:8080")})
	if n := len(x.anyone) + len(x.proved) + len(x.principals.exact[s.principal]); n != 1 {
		t.Errorf("%d rules are looked at", n)
	}
	if p := x.first(&s); p == nil || p.Name != "z" {
		t.Errorf("found %v", p)
	}
}

// TestSeveralIndexesAreOneList: a DENY of one counts before an ALLOW of another, and an ALLOW of one closes the door for all.
func TestSeveralIndexesAreOneList(t *testing.T) {
	client, other := mesh.PolicyMatch{Principals: exact("cluster.local/ns/shop/sa/client")}, mesh.PolicyMatch{Principals: exact("cluster.local/ns/shop/sa/other")}
	caller := Caller{Peer: identity("shop", "client")}
	for _, lists := range [][][]*mesh.Policy{
		{{policy("a", mesh.Allow, client)}, {policy("d", mesh.Deny, client)}},
		{{policy("d", mesh.Deny, client)}, {policy("a", mesh.Allow, client)}},
		{{policy("a", mesh.Allow, other)}, {policy("b", mesh.Allow, client)}},
		{{policy("a", mesh.Allow, other)}, nil},
		{nil, {policy("d", mesh.Deny, other)}},
		{{}, {}},
	} {
		var indexes []*Index
		var all []*mesh.Policy
		for _, list := range lists {
			indexes, all = append(indexes, NewIndex(list)), append(all, list...)
		}
		if got, want := Judge(indexes, caller), Authorize(all, caller); got != want {
			t.Errorf("%v: apart %+v, in one %+v", all, got, want)
		}
	}
}

// TestIndexLooksAtFewPaths: of many rules about paths, those are looked at that begin, or end, as the path does in any reading; all of them for whom no path is known.
func TestIndexLooksAtFewPaths(t *testing.T) {
	var policies []*mesh.Policy
	for i := range 2000 {
		policies = append(policies, asking(mesh.Deny, mesh.RequestMatch{Paths: []mesh.StringMatch{
			{Kind: mesh.MatchPrefix, Value: fmt.Sprintf("/team-%d/", i)}, {Kind: mesh.MatchSuffix, Value: fmt.Sprintf(".%d", i)}, {Kind: mesh.MatchTemplate, Value: fmt.Sprintf("/t%d/{*}", i)}, {Value: fmt.Sprintf("/%%41%d", i)},
		}}))
	}
	x := newRuleIndex(policies)
	for path, want := range map[string]bool{"/team-1999/x": true, "/x/..%2Fteam-1999%2Fx": true, "/x.1999": true, "/t1999/x": true, "/A1999": true, "/team-2000/x": false, "*": true} {
		s := subjectOf(Caller{Request: &Request{Path: path}})
		s.deny = true
		if found := x.first(&s) != nil; found != want || path != "*" && s.spent > 200 {
			t.Errorf("%s: found %v, for the cost of %d comparisons", path, found, s.spent)
		}
	}
	if n := len(x.anyone); n > 0 {
		t.Errorf("%d rules are looked at whatever is asked", n)
	}
	bytes := subjectOf(Caller{})
	if bytes.deny = true; x.first(&bytes) == nil {
		t.Error("bytes pass by a DENY rule about paths")
	}
}
