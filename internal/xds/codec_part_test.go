// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What stands in for a route that a gateway does not take is for that route's hostnames only, and the others are as they were.
func TestBadRouteIsAloneWithIt(t *testing.T) {
	standsIn := []mesh.HTTPRule{{Matches: []mesh.HTTPMatch{{Path: "/"}}, Problem: "the gateway could not read the route"}}
	long := strings.Repeat("x", mesh.MaxValue+1)
	for name, tc := range map[string]struct {
		spoil func(*mesh.HTTPRoute)
		want  mesh.HTTPRoute
	}{
		"header to remove without a name": {
			func(r *mesh.HTTPRoute) { r.Rules[0].Filters.Request.Remove = []string{""} },
			mesh.HTTPRoute{Namespace: "shop", Name: "bad", Hostnames: []string{"bad.example.com"}, Rules: standsIn},
		},
		"long path": {
			func(r *mesh.HTTPRoute) { r.Rules[0].Matches[0].Path += long },
			mesh.HTTPRoute{Namespace: "shop", Name: "bad", Hostnames: []string{"bad.example.com"}, Rules: standsIn},
		},
		"at whatever host": {
			func(r *mesh.HTTPRoute) { r.Hostnames, r.Rules[0].Filters.Request.Remove = nil, []string{long} },
			mesh.HTTPRoute{Namespace: "shop", Name: "bad", Rules: standsIn},
		},
		// Of which it is not known what it is for: it must not answer for everybody else's hosts.
		"hostname without a letter": {func(r *mesh.HTTPRoute) { r.Hostnames = []string{""} }, mesh.HTTPRoute{}},
		"no name":                   {func(r *mesh.HTTPRoute) { r.Name = "" }, mesh.HTTPRoute{}},
	} {
		t.Run(name, func(t *testing.T) {
			told, want := routedGateway("a", "bad", "c"), routedGateway("a", "bad", "c")
			tc.spoil(told.Listeners[0].Routes[1])
			want.Listeners[0].Routes[1] = &tc.want
			body, _, err := encodeGateway(told, nil)
			if err != nil {
				t.Fatal(err)
			}
			var before decodedRoutes
			for range 2 { // it is told of each time
				got, routes, err := decodeGateway(body, before)
				if diff := cmp.Diff(want, got); diff != "" || err == nil || len(routes) != 2 {
					t.Errorf("error %v, %d routes are remembered (-want +got):\n%s", err, len(routes), diff)
				}
				before = routes
			}
		})
	}
}

// A policy that a gateway does not take lets nobody in to what it guards, and to nothing else.
func TestBadPolicyShutsWhatItGuards(t *testing.T) {
	bad := &mesh.Policy{Namespace: "shop", Name: "bad", Action: mesh.Allow, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{
		Principals: []mesh.StringMatch{{Value: strings.Repeat("x", mesh.MaxIdentity+1)}},
	}}}}}}}
	good := &mesh.Policy{Namespace: "shop", Name: "good", Action: mesh.Deny}
	cart, till := mesh.ServiceKey{Namespace: "shop", Hostname: "cart"}, mesh.ServiceKey{Namespace: "shop", Hostname: "till"}
	told := routedGateway("a")
	told.Policies = []*mesh.Policy{good}
	told.ServicePolicies = []mesh.ServicePolicies{{Service: cart, Policies: []*mesh.Policy{bad, good}}, {Service: till, Policies: []*mesh.Policy{good}}}
	body, _, err := encodeGateway(told, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := decodeGateway(body, nil)
	if err == nil || !strings.Contains(err.Error(), "policy shop/bad: principal has 2049 bytes") {
		t.Errorf("the error is %v", err)
	}
	told.ServicePolicies[0].Policies[0] = &mesh.Policy{Namespace: "shop", Name: "bad", Action: mesh.Deny, Rules: []mesh.PolicyRule{{}}}
	if diff := cmp.Diff(told, got); diff != "" {
		t.Error(diff)
	}
}

// Over the wire: whatever one route says, later changes of others arrive, and the server hears what is wrong.
func TestBadRouteStopsNoChange(t *testing.T) {
	rejections := make(chan Rejection, 8)
	s := start(t, "", ready(t, ServerOptions{
		Authenticate: authenticateAs(Caller{Namespace: "shop", ServiceAccount: "edge", Node: "node-1"}), Rejected: func(r Rejection) { rejections <- r },
	}))
	tell := func(g *mesh.Gateway) { s.Update(mesh.Delta{Gateways: map[mesh.GatewayKey]*mesh.Gateway{g.Key(): g}}) }
	bad := routedGateway("a", "bad", "c")
	bad.Listeners[0].Routes[1].Rules[0].Filters.Request.Remove = []string{""}
	tell(bad)
	m := newMirror()
	o := clientOptions(t, s.addr, m)
	o.Types = []Type{Gateway(mesh.GatewayKey{Namespace: "shop", Name: "edge"})}
	run(t, NewClient(o))
	has := func(name string) func() bool {
		return func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			g := m.snapshot.Gateways[mesh.GatewayKey{Namespace: "shop", Name: "edge"}]
			return g != nil && g.Listeners[0].Routes[2].Name == name
		}
	}
	eventually(t, "the first configuration", has("c"))
	if r := <-rejections; r.Type != "Gateway" || len(r.Resources) != 1 || !strings.Contains(r.Reason, "route shop/bad: rule 0: filters: request headers to remove is empty") {
		t.Errorf("the server hears %+v", r)
	}
	later := routedGateway("a", "bad", "later")
	later.Listeners[0].Routes[1] = bad.Listeners[0].Routes[1]
	tell(later)
	eventually(t, "a change of another route", has("later"))
}
