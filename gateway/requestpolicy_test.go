// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// reading lets everybody read below a path, and whoever sends a header do everything.
func reading(path string) *mesh.Policy {
	return &mesh.Policy{Namespace: "shop", Name: "reading", Rules: []mesh.PolicyRule{
		{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{Request: &mesh.RequestMatch{
			Methods: []mesh.StringMatch{{Value: "GET"}}, Paths: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: path}},
		}}}}}},
		{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{Request: &mesh.RequestMatch{
			Headers: []mesh.HeaderMatch{{Name: "X-Team", Values: []mesh.StringMatch{{Value: "shop"}}}},
		}}}}}},
	}}
}

// Each request is judged for itself at a waypoint, also those of one connection, in HTTP/1.1 and in HTTP/2; bytes that are no requests are not let in by a policy about
// requests. gRPC is refused in its own form.
func TestWaypointJudgesEachRequest(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	s.configure(waypointOf(func(g *mesh.Gateway) {
		routed(g)
		g.ServicePolicies = guard(cartKey, reading("/public"))
	}))
	outer := s.outer(15008, clientID)
	dial := func(ctx context.Context) (net.Conn, error) {
		stream, _, err := outer.Open(ctx, authority, nil)
		return stream, err
	}
	only := func(h2 bool) *http.Transport {
		p := new(http.Protocols)
		p.SetHTTP1(!h2)
		p.SetUnencryptedHTTP2(h2)
		return &http.Transport{Protocols: p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	}
	for name, transport := range map[string]*http.Transport{"HTTP/1.1": only(false), "HTTP/2": only(true)} {
		client := &http.Client{Timeout: patience, Transport: transport}
		for _, tc := range []struct {
			method, path, team string
			want               int
		}{
			{"GET", "/public/x", "", 200}, {"POST", "/public/x", "", 403}, {"GET", "/private", "", 403}, {"POST", "/private", "shop", 200},
			{"GET", "/public/../private", "", 403}, {"GET", "//public/x", "", 403}, {"GET", "/public/x", "", 200},
		} {
			r, err := http.NewRequest(tc.method, "http://cart"+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.team != "" {
				r.Header.Set("X-Team", tc.team)
			}
			response, err := client.Do(r)
			if err != nil {
				t.Errorf("%s: %s %s: %v", name, tc.method, tc.path, err)
				continue
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != tc.want || tc.want == 403 && strings.Contains(string(body), "reading") {
				t.Errorf("%s: %s %s is answered %d %q, want %d", name, tc.method, tc.path, response.StatusCode, body, tc.want)
			}
		}
		if name == "HTTP/1.1" { // which cannot carry gRPC
			transport.CloseIdleConnections()
			continue
		}
		rpc, err := http.NewRequest(http.MethodPost, "http://cart/shop.Cart/Empty", nil)
		if err != nil {
			t.Fatal(err)
		}
		rpc.Header.Set("Content-Type", "application/grpc")
		if response, err := client.Do(rpc); err != nil || response.Header.Get("Grpc-Status") != "7" {
			t.Errorf("%s: gRPC is answered %+v, %v", name, response, err)
		} else {
			response.Body.Close()
		}
		transport.CloseIdleConnections()
	}
	if line := s.logs.request("/private"); line == nil || line["reason"] != "denied" {
		t.Errorf("the log says %v", line)
	}
	stream, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := io.WriteString(stream, "\x01\x02 no request at all, and long enough to be sure of that"); err != nil {
		t.Fatal(err)
	}
	if !cut(stream.(*hbone.Stream)) {
		t.Error("bytes were let in by a policy about requests")
	}
}

// An east-west gateway leaves requests to the waypoint that the stream goes to, and judges by the rest. Without one, nobody sees them: an ALLOW rule about them is not in
// force.
func TestGatewayLeavesRequestsToWaypoints(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.echoPod(1))
	front := mesh.ServiceKey{Namespace: "shop", Hostname: "wp.shop.svc.cluster.local"}
	policies := func(g *mesh.Gateway) { g.ServicePolicies = guard(cartKey, reading("/public")) }
	s.configure(policies)
	if status, reason := s.refusal(s.outer(15008, clientID), authority, nil); status != 401 || Reason(reason) != ReasonDenied {
		t.Errorf("without a waypoint: %d %s", status, reason)
	}
	wp := s.echoPod(2)
	wp.Services = map[mesh.ServiceKey][]mesh.Port{front: {{Service: 15008, Target: 15008}}}
	s.add(wp)
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{
		front:   {Namespace: "shop", Name: "wp", Hostname: front.Hostname, Ports: []mesh.Port{{Service: 15008, Target: 15008}}},
		cartKey: cartService(func(svc *mesh.Service) { svc.Waypoint = &mesh.GatewayAddress{Hostname: front, Port: 15008} }),
	}})
	if status, reason := s.refusal(s.outer(15008, clientID), authority, nil); status != 200 {
		t.Errorf("to a waypoint: %d %s", status, reason)
	}
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(func(svc *mesh.Service) {
		svc.Waypoints = []mesh.WeightedWaypoint{{At: mesh.GatewayAddress{Hostname: front, Port: 15008}, Weight: 1}}
	})}})
	if status, reason := s.refusal(s.outer(15008, clientID), authority, nil); status != 200 {
		t.Errorf("to one of several waypoints: %d %s", status, reason)
	}
}

// pathPolicy is a policy about the beginning of paths.
func pathPolicy(name string, action mesh.PolicyAction, path string) *mesh.Policy {
	return &mesh.Policy{Namespace: "shop", Name: name, Action: action, Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{Request: &mesh.RequestMatch{
		Paths: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: path}},
	}}}}}}}}
}

// Nobody gets round the policies of a service by a rule of his own that makes another request of what he asks: who wrote it is of another namespace, so what is sent is judged as well. What the service's
// own rules make of a request is its own affair.
func TestRulesOfOthersGetRoundNoPolicy(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	pod := s.requestPod(2)
	pod.Services = map[mesh.ServiceKey][]mesh.Port{tillKey: {{Service: 80, Target: 8080}}}
	s.add(pod)
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{tillKey: {Namespace: "shop", Name: "till", Hostname: tillKey.Hostname, Ports: []mesh.Port{{Service: 80, Target: 8080}}}}})
	leads := func(namespace, path, with string, to mesh.ServiceKey) *mesh.HTTPRoute {
		r := route(namespace, "r", path, "r")
		r.Rules[0].Filters.Rewrite = &mesh.HTTPRewrite{Path: mesh.PathChange{Kind: mesh.PathPrefixReplaced, Value: with}}
		r.Rules[0].Backends[0].Service = to
		return r
	}
	s.configure(waypointOf(nil))
	thief := s.within(thiefID, authority)
	on := func(key mesh.ServiceKey, p *mesh.Policy) func(*mesh.Gateway) {
		return func(g *mesh.Gateway) { g.ServicePolicies = guard(key, p) }
	}
	all := func(p *mesh.Policy) func(*mesh.Gateway) {
		return func(g *mesh.Gateway) { g.Policies = []*mesh.Policy{p} }
	}
	no, only := pathPolicy("no", mesh.Deny, "/private"), pathPolicy("only", mesh.Allow, "/public")
	for _, tc := range []struct {
		name   string
		route  *mesh.HTTPRoute
		policy func(*mesh.Gateway)
		want   int
	}{
		{"a stranger's rule makes what a DENY policy is about", leads("alley", "/public", "/private", cartKey), on(cartKey, no), 403},
		{"a stranger's rule makes what no ALLOW policy is about", leads("alley", "/public", "/private", cartKey), on(cartKey, only), 403},
		{"a stranger's rule makes nothing of it", leads("alley", "/public", "/public", cartKey), on(cartKey, only), 200},
		{"a stranger's rule hides what came", leads("alley", "/private", "/public", cartKey), on(cartKey, no), 403},
		{"a stranger's rule leads elsewhere", leads("alley", "/public", "/private", tillKey), on(tillKey, no), 403},
		{"a stranger's rule leads elsewhere, as an ALLOW policy has it", leads("alley", "/x", "/public", tillKey), on(tillKey, only), 200},
		{"a stranger's rule and the waypoint's policies", leads("alley", "/public", "/private", cartKey), all(no), 403},
		{"a stranger's rule that leads elsewhere and the waypoint's policies", leads("alley", "/public", "/private", tillKey), all(no), 403},
		{"the service's own rule", leads("shop", "/public", "/private", cartKey), on(cartKey, no), 200},
		{"the service's own rule, as an ALLOW policy has it", leads("shop", "/public", "/", cartKey), on(cartKey, only), 200},
		{"the service's own rule that leads elsewhere", leads("shop", "/public", "/private", tillKey), on(tillKey, no), 403},
	} {
		s.configure(waypointOf(func(g *mesh.Gateway) {
			consumer := tc.route.Namespace
			if consumer == "shop" {
				consumer = ""
			}
			g.ServiceRoutes = []mesh.ServiceRoutes{{Service: cartKey, Consumer: consumer, Routes: []*mesh.HTTPRoute{tc.route}}}
			g.Fronts = append(g.Fronts, tillKey)
			tc.policy(g)
		}))
		if status, body := ask(t, thief, tc.route.Rules[0].Matches[0].Path+"/x"); status != tc.want {
			t.Errorf("%s: %d %q, want %d", tc.name, status, body, tc.want)
		}
	}
}

// The policies of a gateway for everybody see what is asked of its listener, and those of a service what it is sent.
func TestGatewayJudgesRequests(t *testing.T) {
	const letIn = 503 // there is no endpoint
	s := newScene(t, nil)
	for _, tc := range []struct {
		name   string
		change func(*mesh.Gateway)
		want   int
	}{
		{"not denied", func(g *mesh.Gateway) { g.Policies = []*mesh.Policy{pathPolicy("p", mesh.Deny, "/x")} }, letIn},
		{"denied", func(g *mesh.Gateway) { g.Policies = []*mesh.Policy{pathPolicy("p", mesh.Deny, "/")} }, 403},
		{"not allowed", func(g *mesh.Gateway) { g.Policies = []*mesh.Policy{pathPolicy("p", mesh.Allow, "/x")} }, 403},
		{"denied by the service", func(g *mesh.Gateway) { g.ServicePolicies = guard(cartKey, pathPolicy("p", mesh.Deny, "/")) }, 403},
		{"allowed by the service", func(g *mesh.Gateway) { g.ServicePolicies = guard(cartKey, pathPolicy("p", mesh.Allow, "/")) }, letIn},
	} {
		s.configure(webGateway(tc.change))
		if status, body := s.get(); status != tc.want {
			t.Errorf("%s: %d %q, want %d", tc.name, status, body, tc.want)
		}
	}
}
