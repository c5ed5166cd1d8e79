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
}
