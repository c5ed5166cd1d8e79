// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func matching(kind mesh.StringMatchKind, values ...string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, v := range values {
		out = append(out, mesh.StringMatch{Kind: kind, Value: v})
	}
	return out
}

// asking is a policy with one rule about requests.
func asking(action mesh.PolicyAction, r mesh.RequestMatch) *mesh.Policy {
	return policy("p", action, mesh.PolicyMatch{Request: &r})
}

// TestRequests asks an ALLOW policy and a DENY policy with the same rule. What can be read in two ways lets nobody in, and keeps everybody out.
func TestRequests(t *testing.T) {
	for _, tc := range []struct {
		name    string
		rule    mesh.RequestMatch
		request Request
		allowed bool // by the ALLOW policy
		denied  bool // by the DENY policy
	}{
		{"method", mesh.RequestMatch{Methods: exact("GET", "HEAD")}, Request{Method: "HEAD"}, true, true},
		{"another method", mesh.RequestMatch{Methods: exact("GET")}, Request{Method: "POST"}, false, false},
		{"a method in another case", mesh.RequestMatch{Methods: exact("GET")}, Request{Method: "get"}, false, true},
		{"not this method", mesh.RequestMatch{NotMethods: exact("GET")}, Request{Method: "GET"}, false, false},
		{"not another method", mesh.RequestMatch{NotMethods: exact("GET")}, Request{Method: "PUT"}, true, true},

		{"host", mesh.RequestMatch{Hosts: exact("a.example")}, Request{Authority: "a.example"}, true, true},
		{"host, asked with a port", mesh.RequestMatch{Hosts: exact("a.example")}, Request{Authority: "a.example:8080"}, true, true},
		{"host with a port", mesh.RequestMatch{Hosts: exact("a.example:8080")}, Request{Authority: "a.example:8080"}, true, true},
		{"host with another port", mesh.RequestMatch{Hosts: exact("a.example:80")}, Request{Authority: "a.example:8080"}, false, false},
		{"host by its end", mesh.RequestMatch{Hosts: matching(mesh.MatchSuffix, ".example")}, Request{Authority: "a.example:1"}, true, true},
		{"not this host, asked with a port", mesh.RequestMatch{NotHosts: exact("a.example")}, Request{Authority: "a.example:8080"}, false, false},

		{"path", mesh.RequestMatch{Paths: exact("/a")}, Request{Path: "/a"}, true, true},
		{"paths have a case", mesh.RequestMatch{Paths: exact("/a")}, Request{Path: "/A"}, false, false},
		{"path with a slash at its end", mesh.RequestMatch{Paths: exact("/a")}, Request{Path: "/a/"}, false, true},
		{"path by its beginning", mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, "/a/")}, Request{Path: "/a/b"}, true, true},
		{"two slashes", mesh.RequestMatch{Paths: exact("/admin/x")}, Request{Path: "//admin//x"}, false, true},
		{"an escaped slash", mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, "/admin/")}, Request{Path: "/admin%2Fx"}, false, true},
		{"escaped twice", mesh.RequestMatch{Paths: exact("/admin")}, Request{Path: "/%2561dmin"}, false, true},
		{"a backslash", mesh.RequestMatch{Paths: exact("/admin/x")}, Request{Path: "/admin%5Cx"}, false, true},
		{"parameters", mesh.RequestMatch{Paths: exact("/admin/x")}, Request{Path: "/admin;v=1/x"}, false, true},
		{"dots behind an escape", mesh.RequestMatch{Paths: exact("/admin")}, Request{Path: "/public/%2E%2E%2Fadmin"}, false, true},
		{"an escape that is none", mesh.RequestMatch{Paths: exact("/a%zz")}, Request{Path: "/a%zz"}, true, true},
		{"everything but a path", mesh.RequestMatch{NotPaths: exact("/admin")}, Request{Path: "/x"}, true, true},
		{"everything but a path, which is asked for", mesh.RequestMatch{NotPaths: exact("/admin")}, Request{Path: "/admin"}, false, false},
		{"everything but a path, which may be asked for", mesh.RequestMatch{NotPaths: exact("/admin")}, Request{Path: "//admin"}, false, true},

		{"template", mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, "/a/{*}/c")}, Request{Path: "/a/b/c"}, true, true},
		{"template, too deep", mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, "/a/{*}/c")}, Request{Path: "/a/b/b/c"}, false, false},
		{"template, nothing there", mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, "/a/{*}/c")}, Request{Path: "/a//c"}, false, false},
		{"template, something follows", mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, "/a/{*}")}, Request{Path: "/a/b/c"}, false, false},
		{"template of any depth", mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, "/{*}/b/{**}")}, Request{Path: "/a/b/c/d"}, true, true},
		{"template of any depth, nothing there", mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, "/{*}/b/{**}")}, Request{Path: "/a/b/"}, true, true},
		{"template of any depth, not even a slash", mesh.RequestMatch{Paths: matching(mesh.MatchTemplate, "/{*}/b/{**}")}, Request{Path: "/a/b"}, false, false},

		{"header", header(exact("red"), nil), Request{Header: map[string][]string{"X-Team": {"red"}}}, true, true},
		{"no such header", header(exact("red"), nil), Request{}, false, false},
		{"no such header, presence", header(matching(mesh.MatchPresence, ""), nil), Request{}, false, false},
		{"an empty header", header(matching(mesh.MatchPresence, ""), nil), Request{Header: map[string][]string{"X-Team": {""}}}, false, true},
		{"not this value", header(nil, exact("red")), Request{Header: map[string][]string{"X-Team": {"red"}}}, false, false},
		{"not this value, no header", header(nil, exact("red")), Request{}, true, true},
		{"two values", header(exact("red"), nil), Request{Header: map[string][]string{"X-Team": {"red", "blue"}}}, false, true},
		{"two values in one", header(exact("red,blue"), nil), Request{Header: map[string][]string{"X-Team": {"red", "blue"}}}, true, true},
		{"not this value, one of two", header(nil, exact("red")), Request{Header: map[string][]string{"X-Team": {"blue", "red"}}}, false, true},

		{"all of it", mesh.RequestMatch{Methods: exact("GET"), Paths: exact("/a")}, Request{Method: "GET", Path: "/b"}, false, false},
	} {
		caller := Caller{Peer: identity("shop", "client"), Destination: netip.MustParseAddrPort("10.0.0.1:80"), Request: &tc.request}
		for _, action := range []mesh.PolicyAction{mesh.Allow, mesh.Deny} {
			want := tc.allowed
			if action == mesh.Deny {
				want = !tc.denied
			}
			in := []*mesh.Policy{asking(action, tc.rule)}
			for how, got := range map[string]Verdict{"Authorize": Authorize(in, caller), "Judge": Judge([]*Index{NewIndex(in)}, caller)} {
				if got.Allowed != want {
					t.Errorf("%s: action %d: %s: allowed %v, want %v", tc.name, action, how, got.Allowed, want)
				}
			}
		}
	}
}

func header(values, notValues []mesh.StringMatch) mesh.RequestMatch {
	return mesh.RequestMatch{Headers: []mesh.HeaderMatch{{Name: "X-Team", Values: values, NotValues: notValues}}}
}

// TestWithoutRequests judges bytes: as the policy below L7 does, or leaving it to whoever sees the requests.
func TestWithoutRequests(t *testing.T) {
	client := mesh.PolicyMatch{Principals: exact("cluster.local/ns/shop/sa/client")}
	reading := mesh.PolicyMatch{Principals: client.Principals, Request: &mesh.RequestMatch{Methods: exact("GET")}}
	only := mesh.PolicyMatch{Request: &mesh.RequestMatch{Methods: exact("GET")}}
	caller := Caller{Peer: identity("shop", "client")}
	for _, tc := range []struct {
		name       string
		policy     *mesh.Policy
		now, later bool
	}{
		{"an ALLOW rule is not in force", policy("p", mesh.Allow, reading), false, true},
		{"an ALLOW rule about nothing else", policy("p", mesh.Allow, only), false, true},
		{"a DENY rule goes without", policy("p", mesh.Deny, reading), false, true},
		{"a DENY rule about nothing else denies all", policy("p", mesh.Deny, only), false, true},
		{"what asks nothing of requests", policy("p", mesh.Allow, client), true, true},
		{"an alternative", policy("p", mesh.Allow, reading, client), true, true},
	} {
		x := NewIndex([]*mesh.Policy{tc.policy})
		if got := Judge([]*Index{x}, caller).Allowed; got != tc.now {
			t.Errorf("%s: %v", tc.name, got)
		}
		if got := Judge([]*Index{x.Later()}, caller).Allowed; got != tc.later {
			t.Errorf("%s, left to others: %v", tc.name, got)
		}
		below := tc.policy.BelowL7()
		if got := Authorize([]*mesh.Policy{below}, caller).Allowed; got != tc.now && tc.name != "an alternative" {
			t.Errorf("%s, below L7: %v", tc.name, got) // there a rule goes as a whole
		}
		for _, r := range below.Rules {
			for _, c := range r.Clauses {
				for _, m := range c.Matches {
					if m.Request != nil {
						t.Errorf("%s: below L7 it asks %+v", tc.name, m.Request)
					}
				}
			}
		}
	}
	// Of two lists, each is judged in its own way, and one ALLOW of either is enough.
	gateway, service := NewIndex([]*mesh.Policy{policy("g", mesh.Allow, only)}), NewIndex([]*mesh.Policy{policy("s", mesh.Allow, only)})
	if v := Judge([]*Index{gateway, service}, caller); v.Allowed {
		t.Errorf("%+v", v)
	}
	if v := Judge([]*Index{gateway, service.Later()}, caller); !v.Allowed || v.Policy != "shop/s" {
		t.Errorf("%+v", v)
	}
}

func TestRequestsCostNothing(t *testing.T) {
	var in []*mesh.Policy
	for range 100 {
		in = append(in, asking(mesh.Deny, mesh.RequestMatch{Paths: matching(mesh.MatchPrefix, "/admin"), NotMethods: exact("GET")}))
	}
	x := []*Index{NewIndex(in)}
	caller := Caller{Peer: identity("shop", "client"), Request: &Request{Authority: "a", Method: "GET", Path: "/a/b", Header: map[string][]string{}}}
	if n := testing.AllocsPerRun(100, func() { Judge(x, caller) }); n > 1 { // the list of indexes, or the principal
		t.Errorf("%v allocations", n)
	}
}

func TestValidTemplate(t *testing.T) {
	for template, want := range map[string]bool{
		"/a/{*}": true, "/{*}/b/{**}": true, "/{**}": true, "/a": true,
		"": false, "a/{*}": false, "/*/b/{*}": false, "/**/b/{*}": false, "/{**}/a/{*}": false, "/a/{*}.txt": false, "/{**}/a": false, "/{*": false, "/{x}": false,
	} {
		if got := mesh.ValidTemplate(template); got != want {
			t.Errorf("%q: %v", template, got)
		}
	}
}
