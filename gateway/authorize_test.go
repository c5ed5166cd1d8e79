// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var thiefID = mesh.Identity{TrustDomain: "cluster.local", Namespace: "alley", ServiceAccount: "thief"}

// tillKey is a service beside cart, with the same pods behind it.
var tillKey = mesh.ServiceKey{Namespace: "shop", Hostname: "till.shop.svc.cluster.local"}

// policyOn allows or denies the peers that fit one of the matches; without any, nobody.
func policyOn(name string, action mesh.PolicyAction, matches ...mesh.PolicyMatch) *mesh.Policy {
	p := &mesh.Policy{Namespace: "shop", Name: name, Scope: mesh.PolicyWorkloads, Action: action}
	if len(matches) > 0 {
		p.Rules = []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: matches}}}}
	}
	return p
}

func principal(id mesh.Identity) mesh.PolicyMatch {
	return mesh.PolicyMatch{Principals: []mesh.StringMatch{{Value: id.Principal()}}}
}

func guard(key mesh.ServiceKey, policies ...*mesh.Policy) []mesh.ServicePolicies {
	return []mesh.ServicePolicies{{Service: key, Policies: policies}}
}

func prefixes(of ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range of {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func dryRun(p *mesh.Policy) *mesh.Policy {
	p.DryRun = true
	return p
}

// counted is the value of a counter for one reason.
func (s *scene) counted(name string, reason Reason) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == string(reason) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// newGuarded is a gateway that exports cart and till, with a pod behind both.
func newGuarded(t *testing.T, policies []*mesh.Policy, guards []mesh.ServicePolicies) *scene {
	t.Helper()
	s := newScene(t, nil)
	s.guards(policies, guards)
	w := s.echoPod(1)
	w.Services[tillKey] = w.Services[cartKey]
	s.add(w)
	return s
}

// guards tells the gateway of other policies.
func (s *scene) guards(policies []*mesh.Policy, guards []mesh.ServicePolicies) {
	s.t.Helper()
	s.live.Apply(mesh.Delta{Services: map[mesh.ServiceKey]*mesh.Service{tillKey: cartService(func(svc *mesh.Service) {
		svc.Name, svc.Hostname, svc.Addresses = "till", tillKey.Hostname, nil
	})}})
	s.configure(func(g *mesh.Gateway) {
		g.Exports, g.Policies, g.ServicePolicies = []mesh.ServiceKey{cartKey, tillKey}, policies, guards
		g.TrustDomains = []string{"cluster.local", "strange.example"}
	})
}

// TestPoliciesDecideAtTheGateway asks real peers over TLS what they get.
func TestPoliciesDecideAtTheGateway(t *testing.T) {
	tills := tillKey.Hostname + ":80"
	for _, tc := range []struct {
		name     string
		policies []*mesh.Policy
		guards   []mesh.ServicePolicies
		as       mesh.Identity
		asks     string
		status   int
		reason   Reason
		detail   string // in the access log
	}{
		{name: "no policy", as: thiefID, asks: authority, status: 200},
		{name: "allowed by identity", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: clientID, asks: authority, status: 200},
		{name: "somebody else", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: thiefID, asks: authority, status: 401, reason: ReasonDenied,
			detail: "no policy allows spiffe://cluster.local/ns/alley/sa/thief to reach shop/cart.shop.svc.cluster.local:80"},
		{name: "by VIP, too", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: thiefID, asks: "10.96.0.7:80", status: 401, reason: ReasonDenied},
		{name: "in capitals, too", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: thiefID, asks: strings.ToUpper(authority), status: 401, reason: ReasonDenied},
		{name: "another service's policy", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: thiefID, asks: tills, status: 200},
		{name: "denied by namespace", guards: guard(cartKey, policyOn("d", mesh.Deny, mesh.PolicyMatch{Namespaces: []mesh.StringMatch{{Value: "alley"}}})), as: thiefID, asks: authority,
			status: 401, reason: ReasonDenied, detail: "policy shop/d denies spiffe://cluster.local/ns/alley/sa/thief to reach shop/cart.shop.svc.cluster.local:80"},
		{name: "denied by trust domain", guards: guard(cartKey, policyOn("d", mesh.Deny, mesh.PolicyMatch{Principals: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: "strange.example/"}}})),
			as: strangeID, asks: authority, status: 401, reason: ReasonDenied},
		{name: "of the same name in another trust domain", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: strangeID, asks: authority, status: 401, reason: ReasonDenied},
		{name: "the gateway's DENY before the service's ALLOW", policies: []*mesh.Policy{policyOn("d", mesh.Deny, principal(clientID))}, guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))),
			as: clientID, asks: authority, status: 401, reason: ReasonDenied, detail: "policy shop/d denies"},
		{name: "the service's DENY before the gateway's ALLOW", policies: []*mesh.Policy{policyOn("a", mesh.Allow, principal(clientID))}, guards: guard(cartKey, policyOn("d", mesh.Deny, principal(clientID))),
			as: clientID, asks: authority, status: 401, reason: ReasonDenied},
		{name: "one ALLOW of either is enough", policies: []*mesh.Policy{policyOn("a", mesh.Allow, principal(thiefID))}, guards: guard(cartKey, policyOn("b", mesh.Allow, principal(clientID))),
			as: clientID, asks: authority, status: 200},
		{name: "the gateway's ALLOW closes all services", policies: []*mesh.Policy{policyOn("a", mesh.Allow, principal(thiefID))}, as: clientID, asks: tills, status: 401, reason: ReasonDenied},
		{name: "an ALLOW without rules closes", guards: guard(cartKey, policyOn("none", mesh.Allow)), as: clientID, asks: authority, status: 401, reason: ReasonDenied},
		{name: "a DENY without rules does not", guards: guard(cartKey, policyOn("none", mesh.Deny)), as: clientID, asks: authority, status: 200},
		{name: "the service's port", guards: guard(cartKey, policyOn("a", mesh.Allow, mesh.PolicyMatch{DestinationPorts: []uint16{80}})), as: clientID, asks: authority, status: 200},
		{name: "not the pod's port", guards: guard(cartKey, policyOn("a", mesh.Allow, mesh.PolicyMatch{DestinationPorts: []uint16{8080}})), as: clientID, asks: authority, status: 401, reason: ReasonDenied},
		{name: "the service's address", guards: guard(cartKey, policyOn("d", mesh.Deny, mesh.PolicyMatch{DestinationIPs: prefixes("10.96.0.7/32")})), as: clientID, asks: authority, status: 401, reason: ReasonDenied},
		{name: "the outer connection's address", guards: guard(cartKey, policyOn("d", mesh.Deny, mesh.PolicyMatch{SourceIPs: prefixes("127.0.0.0/8")})), as: clientID, asks: authority, status: 401, reason: ReasonDenied},
		{name: "in dry run", guards: guard(cartKey, dryRun(policyOn("d", mesh.Deny, principal(clientID)))), as: clientID, asks: authority, status: 200},
		{name: "what is not exported", as: clientID, asks: "secret.shop.svc.cluster.local:80", status: 503, reason: ReasonNotExported},
		{name: "who may nothing does not learn what is exported", policies: []*mesh.Policy{policyOn("a", mesh.Allow, principal(clientID))}, as: thiefID, asks: "secret.shop.svc.cluster.local:80",
			status: 401, reason: ReasonDenied},
		{name: "nor which ports", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: thiefID, asks: hostname + ":81", status: 401, reason: ReasonDenied},
		{name: "who may learns it", guards: guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))), as: clientID, asks: hostname + ":81", status: 503, reason: ReasonUnknownPort},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newGuarded(t, tc.policies, tc.guards)
			status, reason := s.refusal(s.outer(15008, tc.as), tc.asks, nil)
			if status != tc.status || reason != string(tc.reason) {
				t.Errorf("%d %s, want %d %s", status, reason, tc.status, tc.reason)
			}
			if tc.status == 200 {
				return
			}
			s.until("it is logged", func() bool { return len(s.logs.access()) == 1 })
			if n := s.counted("isthmus_gateway_streams_refused_total", tc.reason); n != 1 {
				t.Errorf("counted %v times", n)
			}
			line := s.logs.access()[0]
			if line["reason"] != string(tc.reason) || line["peer"] != tc.as.String() || !strings.Contains(fmt.Sprint(line["error"]), tc.detail) {
				t.Errorf("access log: %v", line)
			}
			if len(s.dialled()) > 0 {
				t.Errorf("endpoints were dialled for a peer that may not: %v", s.dialled())
			}
		})
	}
}

// TestForgedHeadersChangeNothing has a peer that is denied claim to be one that is allowed, in every way that a CONNECT offers.
func TestForgedHeadersChangeNothing(t *testing.T) {
	s := newGuarded(t, nil, guard(cartKey, policyOn("a", mesh.Allow, principal(clientID)), policyOn("d", mesh.Deny, mesh.PolicyMatch{SourceIPs: prefixes("10.66.0.0/16")})))
	thief, client := s.outer(15008, thiefID), s.outer(15008, clientID)
	claims := hbone.Header{
		{Name: "x-istio-source", Value: "waypoint"}, {Name: "x-istio-source", Value: "gateway"},
		{Name: "x-forwarded-client-cert", Value: "By=spiffe://cluster.local/ns/edge/sa/west;URI=" + clientID.String()},
		{Name: "baggage", Value: "k8s.namespace.name=shop,k8s.deployment.name=till"},
		{Name: "forwarded", Value: `for="10.0.0.9:80";host=` + hostname},
		{Name: "x-forwarded-network", Value: "west"}, {Name: "x-forwarded-for", Value: "10.0.0.9"}, {Name: "x-real-ip", Value: "10.0.0.9"},
		{Name: "authorization", Value: "Bearer x"}, {Name: "x-envoy-peer-metadata", Value: "x"}, {Name: "host", Value: tillKey.Hostname},
		{Name: headerReason, Value: "-"}, {Name: headerEndpoint, Value: "x"},
	}
	for i := range claims {
		if status, reason := s.refusal(thief, authority, claims[i:i+1]); status != 401 || reason != string(ReasonDenied) {
			t.Errorf("%v: %d %s", claims[i], status, reason)
		}
	}
	if status, _ := s.refusal(thief, authority, claims); status != 401 {
		t.Errorf("all together: %d", status)
	}
	// Nor does a claim to be somebody who is denied hurt.
	if status, reason := s.refusal(client, authority, hbone.Header{{Name: "x-forwarded-for", Value: "10.66.0.1"}, {Name: "forwarded", Value: `for="10.66.0.1:1"`}}); status != 200 {
		t.Errorf("the client: %d %s", status, reason)
	}
}

// TestPolicyChangeEndsWhatItDenies: streams that run are judged again, and only those go that a policy turned against.
func TestPolicyChangeEndsWhatItDenies(t *testing.T) {
	s := newGuarded(t, nil, nil)
	thief, client := s.outer(15008, thiefID), s.outer(15008, clientID)
	stolen, bought := s.open(thief), s.open(client)
	tills, _, err := thief.Open(t.Context(), tillKey.Hostname+":80", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tills.Close()
	for _, st := range []*hbone.Stream{stolen, bought, tills} {
		if err := echo(st, "before"); err != nil {
			t.Fatal(err)
		}
	}
	s.guards(nil, guard(cartKey, policyOn("a", mesh.Allow, principal(clientID))))
	_ = stolen.SetReadDeadline(time.Now().Add(patience))
	if n, err := stolen.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || n > 0 {
		t.Errorf("the thief's stream goes on: %d bytes, %v", n, err)
	}
	for name, st := range map[string]*hbone.Stream{"the client's stream": bought, "the thief's to another service": tills} {
		if err := echo(st, "after"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.until("the end is logged", func() bool { return len(s.logs.access()) == 1 })
	if line := s.logs.access()[0]; line["reason"] != string(ReasonRevoked) || line["peer"] != thiefID.String() || !strings.Contains(fmt.Sprint(line["error"]), "no policy allows") {
		t.Errorf("access log: %v", line)
	}
	if n := s.counted("isthmus_gateway_streams_closed_total", ReasonRevoked); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if status, _ := s.refusal(thief, authority, nil); status != 401 {
		t.Errorf("a new stream of the thief: %d", status)
	}
	// The outer connection stays, and what is allowed again is carried again.
	s.guards(nil, nil)
	if err := echo(s.open(thief), "again"); err != nil {
		t.Error(err)
	}
	// A trust domain that may no longer use the gateway is out at once, too.
	strange := s.open(s.outer(15008, strangeID))
	if err := echo(strange, "before"); err != nil {
		t.Fatal(err)
	}
	s.configure(nil)
	_ = strange.SetReadDeadline(time.Now().Add(patience))
	if _, err := strange.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the stranger's stream goes on: %v", err)
	}
}

// TestPolicyChangeDuringTheDial turns a policy against a stream whose endpoint has not answered yet.
func TestPolicyChangeDuringTheDial(t *testing.T) {
	s := newScene(t, nil)
	s.guards(nil, nil)
	w := podWorkload(1, nil)
	s.mu.Lock()
	s.black[netip.AddrPortFrom(w.Addresses[0], mesh.HBONEPort)] = true
	s.mu.Unlock()
	s.add(w)
	type answer struct {
		status int
		reason string
	}
	thief := s.outer(15008, thiefID)
	got := make(chan answer, 1)
	go func() {
		status, reason := s.refusal(thief, authority, nil)
		got <- answer{status, reason}
	}()
	s.until("the endpoint is dialled", func() bool { return len(s.dialled()) == 1 })
	s.guards([]*mesh.Policy{policyOn("d", mesh.Deny, principal(thiefID))}, nil)
	select {
	case a := <-got:
		if a.status != 401 || a.reason != string(ReasonRevoked) {
			t.Errorf("%+v", a)
		}
	case <-time.After(patience):
		t.Fatal("the stream waits for its endpoint")
	}
	s.until("nothing is left", func() bool { return s.count("isthmus_gateway_streams") == 0 })
}

func TestDryRunIsTold(t *testing.T) {
	s := newGuarded(t, nil, guard(cartKey, dryRun(policyOn("d", mesh.Deny, principal(clientID)))))
	if err := echo(s.open(s.outer(15008, clientID)), "x"); err != nil {
		t.Fatal(err)
	}
	if n := s.count("isthmus_gateway_policy_dry_run_total"); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if text := s.logs.text(); !strings.Contains(text, "policies in dry run would decide otherwise") || !strings.Contains(text, `"policy":"shop/d"`) {
		t.Errorf("the log does not tell: %s", text)
	}
}
