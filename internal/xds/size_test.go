// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestRouteSize: a route takes no more on the wire than it says, nor a small part of that: what waypoints are told is bounded by it.
func TestRouteSize(t *testing.T) {
	routes := []*mesh.HTTPRoute{{}}
	for _, l := range sampleListeners() {
		routes = append(routes, l.Routes...)
	}
	large := &mesh.HTTPRoute{Namespace: "shop", Name: "large", Created: 1 << 62}
	for range 16 {
		rule := mesh.HTTPRule{Name: strings.Repeat("n", 253), Problem: strings.Repeat("p", 4096), RequestTimeout: time.Hour * 24 * 365, Retry: &mesh.HTTPRetry{}}
		for range 64 {
			rule.Matches = append(rule.Matches, mesh.HTTPMatch{Path: "/" + strings.Repeat("a", 1023), Exact: true, Method: "DELETE", Headers: []mesh.NameValue{{Name: "A", Value: strings.Repeat("v", 4096)}}})
		}
		for range 16 {
			rule.Backends = append(rule.Backends, mesh.HTTPBackend{Problem: strings.Repeat("p", 300), Weight: 1 << 31, Filters: mesh.HTTPFilters{Mirrors: []mesh.HTTPMirror{{Numerator: 1 << 31, Denominator: 1 << 31}}}})
		}
		large.Rules = append(large.Rules, rule)
	}
	for _, r := range append(routes, large) {
		if wire := proto.Size(routeToProto(r)); r.Size() < wire || r.Size() > 4*wire+64 {
			t.Errorf("route %s takes %d bytes, and says %d", r.Key(), wire, r.Size())
		}
	}
}

// TestListenerSize: the same of listeners and of what each has for itself, by which what a Gateway is told is bounded.
func TestListenerSize(t *testing.T) {
	full := mesh.Listener{Name: "shop/set/full", Port: 443, Bind: 20443, Protocol: mesh.ListenerHTTPS, Hostname: strings.Repeat("h", 253), Clients: &mesh.ClientValidation{CAs: strings.Repeat("c", 4096)}}
	wide := &mesh.TLSRoute{Namespace: "shop", Name: "wide", Backends: []mesh.StreamBackend{{Port: 1, Weight: 1 << 31, Problem: strings.Repeat("p", 300)}}}
	endpoints := mesh.StreamBackend{Service: mesh.ServiceKey{Namespace: "shop", Hostname: "dns.shop.svc.cluster.local"}, Port: 53, Weight: 1}
	for i := range 100 {
		full.Certificates = append(full.Certificates, mesh.Certificate{Chain: strings.Repeat("c", 2000), Key: "k"})
		wide.Hostnames = append(wide.Hostnames, strings.Repeat("h", 1+i))
		endpoints.Endpoints = append(endpoints.Endpoints, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}), 65535))
	}
	for _, l := range append(sampleListeners(), mesh.Listener{}, full) {
		table := routeTable{places: map[*mesh.HTTPRoute]uint32{}}
		if wire := proto.Size(table.listener(l)); l.Size() < wire {
			t.Errorf("listener %s takes %d bytes, and says %d", l.Name, wire, l.Size())
		}
	}
	if wire := proto.Size(tlsRouteToProto(wide)); wide.Size() < wire || wide.Size() > 2*wire {
		t.Errorf("TLSRoute takes %d bytes, and says %d", wire, wide.Size())
	}
	stream := &mesh.StreamRoute{Namespace: "shop", Name: "dns", Backends: []mesh.StreamBackend{endpoints}}
	if wire := proto.Size(streamRouteToProto(stream)); stream.Size() < wire || stream.Size() > 6*wire {
		t.Errorf("UDPRoute takes %d bytes, and says %d", wire, stream.Size())
	}
}

// TestPolicySize: the same of policies, which are a part of what gateways are told.
func TestPolicySize(t *testing.T) {
	large := &mesh.Policy{Namespace: "shop", Name: "large", Scope: mesh.PolicyWorkloads, Action: mesh.Deny, DryRun: true}
	match := mesh.PolicyMatch{Request: &mesh.RequestMatch{}}
	for i := range 300 {
		long := mesh.StringMatch{Kind: mesh.StringMatchKind(i % 5), Value: strings.Repeat("v", i)}
		match.Principals, match.NotNamespaces = append(match.Principals, long), append(match.NotNamespaces, long)
		match.ServiceAccounts = append(match.ServiceAccounts, mesh.ServiceAccountMatch{Namespace: "n", ServiceAccount: "sa"})
		match.SourceIPs = append(match.SourceIPs, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8::1/128"), netip.MustParsePrefix("::/0"))
		match.DestinationPorts = append(match.DestinationPorts, uint16(i), 65535)
		match.Request.Paths, match.Request.Hosts = append(match.Request.Paths, long), append(match.Request.Hosts, long)
		match.Request.Headers = append(match.Request.Headers, mesh.HeaderMatch{Name: "A", Values: []mesh.StringMatch{long, {}}})
		large.Rules = append(large.Rules, mesh.PolicyRule{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{Principals: []mesh.StringMatch{{Kind: mesh.MatchPresence}}}}}}})
	}
	large.Rules = append(large.Rules, mesh.PolicyRule{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{match}}}})
	for _, p := range []*mesh.Policy{{}, samplePolicy(), large} {
		if wire := proto.Size(policyToProto(p)); p.Size() < wire || p.Size() > 6*wire+64 {
			t.Errorf("policy %s takes %d bytes, and says %d", p.Key(), wire, p.Size())
		}
	}
}
