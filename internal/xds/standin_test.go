// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A policy that cannot be read is refused, and lets in less than was written until it can be; what was known of it before goes on.
func TestPoliciesThatCannotBeRead(t *testing.T) {
	policy := func(name string, action mesh.PolicyAction, scope mesh.PolicyScope, kind mesh.StringMatchKind) *mesh.Policy {
		return &mesh.Policy{Namespace: "shop", Name: name, Action: action, Scope: scope, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{
			Matches: []mesh.PolicyMatch{{Principals: []mesh.StringMatch{{Kind: kind, Value: "x"}}}},
		}}}}}
	}
	const odd mesh.StringMatchKind = 99
	server := NewServer(ServerOptions{Log: logr.Discard()})
	sub := &subscriber{server: server, wake: make(chan struct{}, 1), types: map[string]*subscription{}, log: logr.Discard()}
	if err := server.enlist(sub); err != nil {
		t.Fatal(err)
	}
	m := newMirror()
	c := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Policies()}, Node: NodeInfo{ID: "me"}, Apply: m.apply})
	take := func(body []byte) string {
		t.Helper()
		r := new(discovery.DeltaDiscoveryRequest)
		if err := proto.Unmarshal(body, r); err != nil {
			t.Fatal(err)
		}
		if _, err := sub.take(r); err != nil {
			t.Fatal(err)
		}
		return r.GetErrorDetail().GetMessage()
	}
	tell := func(policies ...*mesh.Policy) (refused string) {
		t.Helper()
		d := mesh.Delta{Policies: map[string]*mesh.Policy{}}
		for _, p := range policies {
			d.Policies[p.Key()] = p
		}
		server.Update(d)
		answer, err := c.Hear(wireOfResponse(t, sub.next(authorizationURL)))
		if err != nil {
			t.Fatal(err)
		}
		return take(answer)
	}
	requests, err := c.Hello()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		take(r)
	}

	fine := policy("fine", mesh.Deny, mesh.PolicyNamespace, mesh.MatchExact)
	refused := tell(policy("allow", mesh.Allow, mesh.PolicyWorkloads, odd), policy("deny", mesh.Deny, mesh.PolicyGlobal, odd), policy("unknown", 7, mesh.PolicyGlobal, mesh.MatchExact),
		policy("nowhere", mesh.Deny, 7, mesh.MatchExact), fine)
	for _, name := range []string{"shop/allow:", "shop/deny:", "shop/unknown:", "shop/nowhere:"} {
		if !strings.Contains(refused, name) {
			t.Errorf("%s is not refused: %s", name, refused)
		}
	}
	want := map[string]*mesh.Policy{
		"shop/allow": {Namespace: "shop", Name: "allow", Scope: mesh.PolicyWorkloads},
		"shop/deny":  {Namespace: "shop", Name: "deny", Action: mesh.Deny, Rules: []mesh.PolicyRule{{}}},
		"shop/fine":  fine,
	}
	if diff := cmp.Diff(want, m.snapshot.Policies); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}

	good := policy("deny", mesh.Deny, mesh.PolicyGlobal, mesh.MatchPrefix)
	if refused := tell(policy("fine", mesh.Deny, mesh.PolicyNamespace, odd), good); !strings.Contains(refused, "shop/fine:") || strings.Contains(refused, "shop/deny") {
		t.Errorf("then is refused %q", refused)
	}
	want["shop/deny"] = good
	if diff := cmp.Diff(want, m.snapshot.Policies); diff != "" {
		t.Errorf("then (-want +got):\n%s", diff)
	}
}
