// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/securitypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"
)

func samplePod() *mesh.Workload {
	return &mesh.Workload{
		UID: "west//Pod/shop/cart-0", Name: "cart-0", Namespace: "shop",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")},
		Hostname:  "cart-0.example", Network: "west", Cluster: "west", Tunnel: mesh.TunnelHBONE,
		TrustDomain: "example.org", ServiceAccount: "cart", Node: "node-1", HostNetwork: true, Unhealthy: true, Capacity: 3,
		Services: map[mesh.ServiceKey][]mesh.Port{
			{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}: {{Service: 80, Target: 8080, App: mesh.AppHTTP2}},
			{Namespace: "shop", Hostname: "all.shop.svc.cluster.local"}:  nil,
		},
		Waypoint:  &mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "shop", Hostname: "wp.shop.svc.cluster.local"}, Port: 15008},
		AppTunnel: &mesh.AppTunnel{Port: 15088, Proxy: true},
		Locality:  mesh.Locality{Region: "r", Zone: "z", Subzone: "s"}, Policies: []string{"shop/strict"},
		CanonicalName: "cart", CanonicalRevision: "v1", WorkloadName: "cart", Kind: mesh.KindJob,
	}
}

func sampleGatewayPod() *mesh.Workload {
	w := samplePod()
	w.UID, w.Gateway = "west//Pod/shop/gateway-0", true
	return w
}

func sampleConfiningPod() *mesh.Workload {
	w := sampleGatewayPod()
	w.UID, w.Confines = "west//Pod/shop/gateway-1", true
	return w
}

func sampleSplitHorizon() *mesh.Workload {
	return &mesh.Workload{
		UID: "east/SplitHorizonWorkload/isthmus-system/gw/203.0.113.9/shop/cart.shop.svc.cluster.local", Name: "x", Namespace: "shop",
		Network: "east", Cluster: "east", Tunnel: mesh.TunnelHBONE, TrustDomain: "cluster.local", ServiceAccount: "default", Capacity: 2, Kind: mesh.KindPod,
		NetworkGateway: &mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: "east", Addr: netip.MustParseAddr("203.0.113.9")}, Port: 15009},
	}
}

func sampleService() *mesh.Service {
	return &mesh.Service{
		Namespace: "shop", Name: "cart", Hostname: "cart.shop.svc.cluster.local",
		Addresses: []mesh.NetworkAddress{{Network: "east", Addr: netip.MustParseAddr("10.96.0.9")}, {Network: "west", Addr: netip.MustParseAddr("fd00::9")}},
		Ranges:    []mesh.NetworkRange{{Network: "east", Prefix: netip.MustParsePrefix("192.0.2.0/24")}, {Prefix: netip.MustParsePrefix("::/0")}},
		Ports:     []mesh.Port{{Service: 80, Target: 8080, App: mesh.AppHTTP11, Name: "http"}, {Service: 443, App: mesh.AppTLS}},
		SANs:      []string{"spiffe://cluster.local/ns/shop/sa/cart"},
		Waypoint:  &mesh.GatewayAddress{Addr: mesh.NetworkAddress{Addr: netip.MustParseAddr("10.96.0.10")}, Port: 15008},
		Consumers: []mesh.ConsumerWaypoint{
			{Namespace: "client", At: mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "client", Hostname: "wp.client.svc.cluster.local"}, Port: 15008}},
			{Namespace: "other", At: mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "other", Hostname: "wp.other.svc.cluster.local"}, Port: 15009}},
		},
		Waypoints: []mesh.WeightedWaypoint{{At: mesh.GatewayAddress{Hostname: mesh.ServiceKey{Namespace: "shop", Hostname: "wp.shop.svc.cluster.local"}, Port: 15008}, Weight: 9}},
		Balance: mesh.LoadBalancing{Preference: []mesh.Scope{mesh.ScopeNetwork, mesh.ScopeRegion, mesh.ScopeZone},
			Mode: mesh.BalanceFailover, AllowUnhealthy: true},
		Families: mesh.FamiliesDual, Canonical: true, NamespaceOnly: true, Exported: true,
	}
}

func samplePolicy() *mesh.Policy {
	return &mesh.Policy{
		Name: "strict", Namespace: "shop", Scope: mesh.PolicyWorkloads, Action: mesh.Deny, DryRun: true,
		Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{
			Namespaces:          []mesh.StringMatch{{Kind: mesh.MatchExact, Value: "a"}, {Kind: mesh.MatchPrefix, Value: "b"}},
			NotNamespaces:       []mesh.StringMatch{{Kind: mesh.MatchSuffix, Value: "c"}},
			Principals:          []mesh.StringMatch{{Kind: mesh.MatchPresence}},
			NotPrincipals:       []mesh.StringMatch{{Kind: mesh.MatchExact}},
			ServiceAccounts:     []mesh.ServiceAccountMatch{{Namespace: "a", ServiceAccount: "b"}},
			NotServiceAccounts:  []mesh.ServiceAccountMatch{{ServiceAccount: "c"}},
			SourceIPs:           []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")},
			NotSourceIPs:        []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")},
			DestinationIPs:      []netip.Prefix{netip.MustParsePrefix("fd00::1/128")},
			NotDestinationIPs:   []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
			DestinationPorts:    []uint16{80, 65535},
			NotDestinationPorts: []uint16{0},
			Request:             sampleRequest(),
		}, {}}}, {}}}, {}},
	}
}

func sampleRequest() *mesh.RequestMatch {
	return &mesh.RequestMatch{
		Hosts: []mesh.StringMatch{{Value: "a.example"}}, NotHosts: []mesh.StringMatch{{Kind: mesh.MatchSuffix, Value: ".b.example"}},
		Methods: []mesh.StringMatch{{Value: "GET"}}, NotMethods: []mesh.StringMatch{{Kind: mesh.MatchPresence}},
		Paths:    []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: "/a"}, {Kind: mesh.MatchTemplate, Value: "/{*}/b/{**}"}},
		NotPaths: []mesh.StringMatch{{Kind: mesh.MatchTemplate, Value: "/{*}"}},
		Headers:  []mesh.HeaderMatch{{Name: "X-Team", Values: []mesh.StringMatch{{Value: "a"}}, NotValues: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Value: "b"}}}, {Name: "X-Other"}},
	}
}

func sampleGateway() *mesh.Gateway {
	listeners := sampleListeners()
	cart := mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}
	return &mesh.Gateway{
		Namespace: "isthmus-system", Name: "eastwest", Network: "east", ServiceAccount: "eastwest",
		Listeners: listeners,
		Service:   mesh.ServiceKey{Namespace: "isthmus-system", Hostname: "eastwest.isthmus-system.svc.cluster.local"},
		Fronts:    []mesh.ServiceKey{cart},
		Consumed:  []mesh.ServiceKey{cart},
		BackendTLS: []mesh.BackendTLS{
			{Service: cart, Port: 80, ServerName: "cart.example.com", CAs: "CAs", SANs: []mesh.SubjectAltName{{URI: true, Value: "spiffe://example.com/cart"}, {Value: "cart.example.com"}}},
			{Service: cart, Port: 443, ServerName: "cart.example.com", System: true},
			{Service: cart, Port: 8443, Problem: "there is no ConfigMap"},
		},
		ClientCertificate: &mesh.Certificate{Chain: "chain", Key: "key"},
		ServiceRoutes: []mesh.ServiceRoutes{
			{Service: cart, Routes: listeners[2].Routes},
			{Service: cart, Port: 80, Consumer: "mobile", Routes: []*mesh.HTTPRoute{{Namespace: "mobile", Name: "mine"}}},
		},
		Exports:      []mesh.ServiceKey{{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}},
		TrustDomains: []string{"cluster.local"},
		Policies:     []*mesh.Policy{samplePolicy(), {Namespace: "n", Name: "none"}},
		ServicePolicies: []mesh.ServicePolicies{
			{Service: mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}, Policies: []*mesh.Policy{samplePolicy()}},
			{Service: mesh.ServiceKey{Namespace: "shop", Hostname: "till.shop.svc.cluster.local"}},
		},
	}
}

func sampleListeners() []mesh.Listener {
	cart := mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}
	changes := mesh.HeaderChange{Set: []mesh.NameValue{{Name: "X-A", Value: "1"}}, Add: []mesh.NameValue{{Name: "X-B", Value: ""}}, Remove: []string{"X-C"}}
	path := mesh.PathChange{Kind: mesh.PathPrefixReplaced, Value: "/new"}
	route := &mesh.HTTPRoute{
		Namespace: "shop", Name: "cart", Created: 1700000000, Hostnames: []string{"shop.example.com", "*.example.org"},
		Rules: []mesh.HTTPRule{{
			Name: "first", RequestTimeout: time.Second, BackendTimeout: time.Millisecond,
			Retry: &mesh.HTTPRetry{Codes: []uint16{500, 503}, Attempts: 3, Backoff: time.Microsecond},
			Matches: []mesh.HTTPMatch{{Path: "/"}, {
				Path: "/cart", Exact: true, Method: "GET", Headers: []mesh.NameValue{{Name: "X-User", Value: "me"}}, Query: []mesh.NameValue{{Name: "q", Value: "1"}},
			}},
			Filters: mesh.HTTPFilters{
				Request: changes, Response: changes, Rewrite: &mesh.HTTPRewrite{Hostname: "cart.internal", Path: path},
				CORS:    &mesh.CORS{Origins: []string{"https://a.example.com"}, Credentials: true, Methods: []string{"GET"}, Headers: []string{"X-A"}, Expose: []string{"X-B"}, MaxAge: 5},
				Mirrors: []mesh.HTTPMirror{{Backend: mesh.HTTPBackend{Service: cart, Port: 80}, Numerator: 1, Denominator: 2}},
			},
			Backends: []mesh.HTTPBackend{{Service: cart, Port: 80, Weight: 9, Filters: mesh.HTTPFilters{Request: changes}}, {Weight: 1, Problem: "no such service"}},
		}, {
			Matches: []mesh.HTTPMatch{{Path: "/old"}},
			Filters: mesh.HTTPFilters{Redirect: &mesh.HTTPRedirect{Scheme: "https", Hostname: "new.example.com", Path: path, Port: 8443, Status: 301}},
		}, {
			Matches: []mesh.HTTPMatch{{Path: "/odd"}}, Problem: "a filter that is not known",
		}},
	}
	grpc := &mesh.HTTPRoute{GRPC: true, Namespace: "shop", Name: "grpc", Hostnames: []string{"grpc.example.com"}, Rules: []mesh.HTTPRule{{
		Matches: []mesh.HTTPMatch{{Path: "/", RPC: "Get"}}, Backends: []mesh.HTTPBackend{{Service: cart, Port: 80, Weight: 1, HTTP2: true}},
	}}}
	return []mesh.Listener{
		{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerHBONE},
		{Name: "inside", Port: 15009, Bind: 15009, Protocol: mesh.ListenerWaypoint},
		{Name: "web", Port: 80, Bind: 20080, Protocol: mesh.ListenerHTTP, Routes: []*mesh.HTTPRoute{route, grpc, {Namespace: "shop", Name: "empty"}}},
		{Name: "past", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLS, TLSRoutes: []*mesh.TLSRoute{{
			Namespace: "shop", Name: "api", Hostnames: []string{"api.example.com"},
			Backends: []mesh.StreamBackend{{Service: mesh.ServiceKey{Namespace: "shop", Hostname: "api.shop.svc.cluster.local"}, Port: 443, Weight: 2}, {Problem: "no Service"}},
		}}},
		{Name: "web/" + strings.Repeat("s", 253) + "/" + strings.Repeat("l", 253), Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLSTerminate, Hostname: "here.example.com", Certificates: []mesh.Certificate{{Chain: "chain", Key: "key"}}},
		{Name: "db", Port: 5432, Bind: 5432, Protocol: mesh.ListenerTCP, Stream: &mesh.StreamRoute{
			Namespace: "shop", Name: "db", Backends: []mesh.StreamBackend{{Service: cart, Port: 5432, Weight: 1}, {Weight: 1, Problem: "no Service"}},
		}},
		{Name: "dns", Port: 53, Bind: 20053, Protocol: mesh.ListenerUDP, Stream: &mesh.StreamRoute{
			Namespace: "shop", Name: "dns", Backends: []mesh.StreamBackend{{Service: cart, Port: 53, Weight: 1, Endpoints: []netip.AddrPort{
				netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("[fd00::1]:5353"),
			}}},
		}},
		{Name: "safe", Port: 443, Bind: 20443, Protocol: mesh.ListenerHTTPS, Hostname: "*.example.com", Routes: []*mesh.HTTPRoute{route},
			Certificates: []mesh.Certificate{{Chain: "chain", Key: "key"}}, Clients: &mesh.ClientValidation{CAs: "CAs", Insecure: true}},
	}
}

// routed is a gateway with one route, which its listener names by the given places, or by the right one.
func routed(r *gatewaypb.HTTPRoute, places ...uint32) *gatewaypb.Gateway {
	if len(places) == 0 {
		places = []uint32{0}
	}
	return &gatewaypb.Gateway{
		Namespace: "n", Name: "g", HttpRoutes: []*gatewaypb.HTTPRoute{r},
		Listeners: []*gatewaypb.Listener{{Name: "l", Port: 80, Bind: 20080, Protocol: gatewaypb.Listener_HTTP, HttpRoutes: places}},
	}
}

// nested is a backend that is mirrored to one that is mirrored to one, and so on.
func nested(depth int) *gatewaypb.HTTPBackend {
	out := &gatewaypb.HTTPBackend{Service: &gatewaypb.ServiceKey{Namespace: "n", Hostname: "h"}, Port: 80}
	if depth > 0 {
		out.Filters = &gatewaypb.HTTPFilters{Mirrors: []*gatewaypb.HTTPMirror{{Backend: nested(depth - 1), Numerator: 1, Denominator: 1}}}
	}
	return out
}

func encodeValue(v value) (string, []byte, error) {
	switch {
	case v.workload != nil:
		b, err := encodeWorkload(v.workload)
		return addressURL, b, err
	case v.service != nil:
		b, err := encodeService(v.service)
		return addressURL, b, err
	case v.policy != nil:
		b, err := encodePolicy(v.policy)
		return authorizationURL, b, err
	case v.bundle != nil:
		b, err := encodeBundle(v.bundle)
		return bundleURL, b, err
	default:
		b, _, err := encodeGateway(v.gateway, nil)
		return gatewayURL, b, err
	}
}

func TestDecodeGivesWhatWasEncoded(t *testing.T) {
	for _, want := range []value{
		{workload: samplePod()}, {workload: sampleGatewayPod()}, {workload: sampleConfiningPod()}, {workload: sampleSplitHorizon()}, {service: sampleService()},
		{policy: samplePolicy()}, {gateway: sampleGateway()}, {bundle: sampleBundle()},
		{service: &mesh.Service{Namespace: "n", Hostname: "headless"}},
		{policy: &mesh.Policy{Name: "p", Namespace: "n"}},
		{gateway: &mesh.Gateway{Name: "g", Namespace: "n"}},
	} {
		url, body, err := encodeValue(want)
		if err != nil {
			t.Errorf("encode %s: %v", want.name(), err)
			continue
		}
		got, err := decode(url, body)
		if err != nil {
			t.Errorf("decode %s: %v", want.name(), err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s came back as\n%+v, want\n%+v", want.name(), got, want)
		}
		_, again, _ := encodeValue(got)
		if !bytes.Equal(body, again) {
			t.Errorf("%s is encoded in two ways", want.name())
		}
	}
}

// The samples above set every field, or a new field could be forgotten in the codec and no test would tell.
func TestSamplesSetEveryField(t *testing.T) {
	set := map[string]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				walk(v.MapIndex(k))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().PkgPath() != "net/netip" {
					field := v.Type().Name() + "." + v.Type().Field(i).Name
					set[field] = set[field] || !v.Field(i).IsZero()
					walk(v.Field(i))
				}
			}
		}
	}
	for _, sample := range []any{samplePod(), sampleGatewayPod(), sampleConfiningPod(), sampleSplitHorizon(), sampleService(), samplePolicy(), sampleGateway(), sampleBundle()} {
		walk(reflect.ValueOf(sample))
	}
	for field, ok := range set {
		if !ok {
			t.Errorf("%s is zero in every sample", field)
		}
	}
}

// What an Istio control plane leaves out means these.
func TestDecodeDefaults(t *testing.T) {
	body, err := proto.Marshal(&workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: &workloadpb.Workload{
		Uid:            "u",
		NetworkGateway: &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Address{Address: &workloadpb.NetworkAddress{Address: []byte{10, 0, 0, 1}}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := decode(addressURL, body)
	if err != nil {
		t.Fatal(err)
	}
	w := v.workload
	if w.TrustDomain != "cluster.local" || w.ServiceAccount != "default" || w.Cluster != "Kubernetes" || w.Capacity != 1 || w.NetworkGateway.Port != 15008 {
		t.Errorf("defaults are %+v", w)
	}
}

// The numbers on the wire, written by hand from the field tables of the protocol: no generated code between.
func TestFieldNumbers(t *testing.T) {
	text := func(b []byte, field protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	number := func(b []byte, field protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
	}
	port := number(number(number(nil, 1, 80), 2, 8080), 3, 3)
	gateway := number(text(nil, 2, string(text(text(nil, 1, "east"), 2, "\xcb\x00\x71\x09"))), 3, 15443)
	var w []byte
	w = text(w, 20, "uid")
	w = text(w, 1, "name")
	w = text(w, 2, "ns")
	w = text(w, 3, "\x0a\x00\x00\x07")
	w = text(w, 21, "host")
	w = text(w, 4, "net")
	w = number(w, 5, 1)
	w = text(w, 6, "td")
	w = text(w, 7, "sa")
	w = text(w, 19, string(gateway))
	w = text(w, 9, "node")
	w = text(w, 10, "cn")
	w = text(w, 11, "cr")
	w = number(w, 12, 2)
	w = text(w, 13, "wn")
	w = text(w, 16, "ns/p")
	w = number(w, 17, 1)
	w = text(w, 18, "c")
	w = text(w, 22, string(text(text(nil, 1, "ns/h"), 2, string(text(nil, 1, string(port))))))
	w = text(w, 24, string(text(text(text(nil, 1, "r"), 2, "z"), 3, "s")))
	w = number(w, 25, 1)
	w = text(w, 27, string(number(nil, 1, 7)))
	v, err := decode(addressURL, text(nil, 1, string(w)))
	if err != nil {
		t.Fatal(err)
	}
	want := &mesh.Workload{
		UID: "uid", Name: "name", Namespace: "ns", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7")}, Hostname: "host",
		Network: "net", Tunnel: mesh.TunnelHBONE, TrustDomain: "td", ServiceAccount: "sa", Node: "node", CanonicalName: "cn",
		CanonicalRevision: "cr", Kind: mesh.KindPod, WorkloadName: "wn", Policies: []string{"ns/p"}, Unhealthy: true, Cluster: "c",
		Services:       map[mesh.ServiceKey][]mesh.Port{{Namespace: "ns", Hostname: "h"}: {{Service: 80, Target: 8080, App: mesh.AppGRPC}}},
		Locality:       mesh.Locality{Region: "r", Zone: "z", Subzone: "s"},
		HostNetwork:    true,
		Capacity:       7,
		NetworkGateway: &mesh.GatewayAddress{Addr: mesh.NetworkAddress{Network: "east", Addr: netip.MustParseAddr("203.0.113.9")}, Port: 15443},
	}
	if !reflect.DeepEqual(v.workload, want) {
		t.Errorf("workload is\n%+v, want\n%+v", v.workload, want)
	}

	var s []byte
	s = text(s, 1, "name")
	s = text(s, 2, "ns")
	s = text(s, 3, "h")
	s = text(s, 4, string(text(text(nil, 1, "net"), 2, "\x0a\x60\x00\x01")))
	s = text(s, 5, string(port))
	s = text(s, 6, "spiffe://td/ns/ns/sa/sa")
	s = text(s, 8, string(number(number(number(nil, 1, 6), 2, 2), 3, 1)))
	s = number(s, 9, 3)
	s = number(s, 11, 1)
	s = number(s, 14, 1)
	v, err = decode(addressURL, text(nil, 2, string(s)))
	if err != nil {
		t.Fatal(err)
	}
	wantService := &mesh.Service{
		Name: "name", Namespace: "ns", Hostname: "h",
		Addresses: []mesh.NetworkAddress{{Network: "net", Addr: netip.MustParseAddr("10.96.0.1")}},
		Ports:     []mesh.Port{{Service: 80, Target: 8080, App: mesh.AppGRPC}},
		SANs:      []string{"spiffe://td/ns/ns/sa/sa"},
		Balance:   mesh.LoadBalancing{Preference: []mesh.Scope{mesh.ScopeNetwork}, Mode: mesh.BalanceFailover, AllowUnhealthy: true},
		Families:  mesh.FamiliesDual, Canonical: true, NamespaceOnly: true,
	}
	if !reflect.DeepEqual(v.service, wantService) {
		t.Errorf("service is\n%+v, want\n%+v", v.service, wantService)
	}

	match := text(text(nil, 4, string(text(nil, 4, ""))), 5, string(number(text(nil, 1, "\x0a\x00\x00\x00"), 2, 8)))
	match = text(match, 11, string(text(text(nil, 1, "ns"), 2, "sa")))
	match = number(match, 9, 80)
	p := number(number(text(text(nil, 1, "p"), 2, "ns"), 3, 2), 4, 1)
	p = text(p, 5, string(text(nil, 1, string(text(nil, 2, string(match))))))
	p = number(p, 6, 1)
	v, err = decode(authorizationURL, p)
	if err != nil {
		t.Fatal(err)
	}
	wantPolicy := &mesh.Policy{Name: "p", Namespace: "ns", Scope: mesh.PolicyWorkloads, Action: mesh.Deny, DryRun: true,
		Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{
			NotPrincipals:    []mesh.StringMatch{{Kind: mesh.MatchPresence}},
			SourceIPs:        []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			ServiceAccounts:  []mesh.ServiceAccountMatch{{Namespace: "ns", ServiceAccount: "sa"}},
			DestinationPorts: []uint16{80},
		}}}}}}}
	if !reflect.DeepEqual(v.policy, wantPolicy) {
		t.Errorf("policy is\n%+v, want\n%+v", v.policy, wantPolicy)
	}
}

func TestDecodeRejects(t *testing.T) {
	workload := func(w *workloadpb.Workload) proto.Message {
		if w.Uid == "" {
			w.Uid = "u"
		}
		return &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: w}}
	}
	service := func(s *workloadpb.Service) proto.Message {
		s.Namespace, s.Hostname = "n", "h"
		return &workloadpb.Address{Type: &workloadpb.Address_Service{Service: s}}
	}
	policy := func(m *securitypb.Match) proto.Message {
		return &securitypb.Authorization{Name: "p", Namespace: "n",
			Rules: []*securitypb.Rule{{Clauses: []*securitypb.Clause{{Matches: []*securitypb.Match{m}}}}}}
	}
	length, long := uint32(8), uint32(33)
	for name, tc := range map[string]struct {
		url  string
		in   proto.Message
		want string
	}{
		"empty address":           {addressURL, &workloadpb.Address{}, "neither"},
		"no uid":                  {addressURL, &workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: &workloadpb.Workload{}}}, "uid is empty"},
		"legacy tunnel":           {addressURL, workload(&workloadpb.Workload{TunnelProtocol: workloadpb.TunnelProtocol_LEGACY_ISTIO_MTLS}), "tunnel_protocol"},
		"unknown tunnel":          {addressURL, workload(&workloadpb.Workload{TunnelProtocol: 99}), "tunnel_protocol"},
		"unknown status":          {addressURL, workload(&workloadpb.Workload{Status: 2}), "status"},
		"address of 5 bytes":      {addressURL, workload(&workloadpb.Workload{Addresses: [][]byte{{1, 2, 3, 4, 5}}}), "5 bytes"},
		"empty IP":                {addressURL, workload(&workloadpb.Workload{Addresses: [][]byte{{}}}), "0 bytes"},
		"long uid":                {addressURL, workload(&workloadpb.Workload{Uid: strings.Repeat("u", 2049)}), "uid has 2049 bytes"},
		"long namespace":          {addressURL, workload(&workloadpb.Workload{Namespace: strings.Repeat("n", 254)}), "namespace"},
		"gateway without address": {addressURL, workload(&workloadpb.Workload{NetworkGateway: &workloadpb.GatewayAddress{}}), "network_gateway"},
		"gateway with bad port": {addressURL, workload(&workloadpb.Workload{NetworkGateway: &workloadpb.GatewayAddress{
			HboneMtlsPort: 65536, Destination: &workloadpb.GatewayAddress_Address{Address: &workloadpb.NetworkAddress{Address: []byte{1, 2, 3, 4}}}}}), "port"},
		"service name":   {addressURL, workload(&workloadpb.Workload{Services: map[string]*workloadpb.PortList{"nonsense": nil}}), `"nonsense"`},
		"service port 0": {addressURL, service(&workloadpb.Service{Ports: []*workloadpb.Port{{}}}), "service_port"},
		"target port":    {addressURL, service(&workloadpb.Service{Ports: []*workloadpb.Port{{ServicePort: 1, TargetPort: 70000}}}), "target_port"},
		"nil port":       {addressURL, service(&workloadpb.Service{Ports: []*workloadpb.Port{nil}}), "service_port"},
		"range of VIPs": {addressURL, service(&workloadpb.Service{Addresses: []*workloadpb.NetworkAddress{
			{Address: []byte{10, 0, 0, 0}, Length: &long}}}), "prefix length"},
		"range as waypoint": {addressURL, service(&workloadpb.Service{Waypoint: &workloadpb.GatewayAddress{Destination: &workloadpb.GatewayAddress_Address{
			Address: &workloadpb.NetworkAddress{Address: []byte{10, 0, 0, 0}, Length: &length}}}}), "range"},
		"scope":         {addressURL, service(&workloadpb.Service{LoadBalancing: &workloadpb.LoadBalancing{RoutingPreference: []workloadpb.LoadBalancing_Scope{7}}}), "routing preference"},
		"mode":          {addressURL, service(&workloadpb.Service{LoadBalancing: &workloadpb.LoadBalancing{Mode: 4}}), "mode"},
		"visibility":    {addressURL, service(&workloadpb.Service{Visibility: 2}), "visibility"},
		"families":      {addressURL, service(&workloadpb.Service{IpFamilies: -1}), "ip_families"},
		"slash":         {addressURL, &workloadpb.Address{Type: &workloadpb.Address_Service{Service: &workloadpb.Service{Namespace: "a/b", Hostname: "h"}}}, "slash"},
		"policy scope":  {authorizationURL, &securitypb.Authorization{Name: "p", Namespace: "n", Scope: 3}, "scope"},
		"policy action": {authorizationURL, &securitypb.Authorization{Name: "p", Namespace: "n", Action: 2}, "action"},
		"empty match":   {authorizationURL, policy(&securitypb.Match{Principals: []*securitypb.StringMatch{{}}}), "principal"},
		"prefix length": {authorizationURL, policy(&securitypb.Match{SourceIps: []*securitypb.Address{{Address: []byte{1, 2, 3, 4}, Length: 33}}}), "prefix length"},
		"mapped prefix": {authorizationURL, policy(&securitypb.Match{SourceIps: []*securitypb.Address{{Address: netip.MustParseAddr("::ffff:1.2.3.4").AsSlice(), Length: 95}}}), "prefix length"},
		"policy port":   {authorizationURL, policy(&securitypb.Match{DestinationPorts: []uint32{65536}}), "destination_port"},
		"extension":     {authorizationURL, policy(&securitypb.Match{Extensions: []*securitypb.Extension{{Name: "x"}}}), `"x"`},
		"protocol":      {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", Listeners: []*gatewaypb.Listener{{Name: "l", Port: 1, Bind: 1}}}, "protocol"},
		"listener port": {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", Listeners: []*gatewaypb.Listener{{Name: "l", Bind: 1, Protocol: 1}}}, "listener port"},
		"gateway's policy": {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", Policies: []*securitypb.Authorization{
			{Name: "good", Namespace: "n"}, {Name: "bad", Namespace: "n", Action: 2}}}, "policy n/bad: action"},
		"service's policy": {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", ServicePolicies: []*gatewaypb.ServicePolicies{{
			Service: &gatewaypb.ServiceKey{Namespace: "n", Hostname: "h"}, Policies: []*securitypb.Authorization{{Namespace: "n"}}}}}, "name is empty"},
		"service's policy without service": {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", ServicePolicies: []*gatewaypb.ServicePolicies{{}}}, "service_policies namespace"},
		"place of a route":                 {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r"}, 1), "names route 1 of 1"},
		"rule without match":               {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r", Rules: []*gatewaypb.HTTPRule{{}}}), "without a match"},
		"relative path": {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r", Rules: []*gatewaypb.HTTPRule{{
			Matches: []*gatewaypb.HTTPMatch{{Path: "a"}}}}}), "slash"},
		"backend without service": {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r", Rules: []*gatewaypb.HTTPRule{{
			Matches: []*gatewaypb.HTTPMatch{{Path: "/"}}, Backends: []*gatewaypb.HTTPBackend{{Port: 80}}}}}), "backend 0: service"},
		"code of a retry": {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r", Rules: []*gatewaypb.HTTPRule{{
			Matches: []*gatewaypb.HTTPMatch{{Path: "/"}}, Retry: &gatewaypb.HTTPRetry{Codes: []uint32{200}}}}}), "code 200"},
		"status of a redirect": {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r", Rules: []*gatewaypb.HTTPRule{{
			Matches: []*gatewaypb.HTTPMatch{{Path: "/"}}, Filters: &gatewaypb.HTTPFilters{Redirect: &gatewaypb.HTTPRedirect{Status: 200}}}}}), "status 200"},
		"mirror of nothing": {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r", Rules: []*gatewaypb.HTTPRule{{
			Matches: []*gatewaypb.HTTPMatch{{Path: "/"}}, Filters: &gatewaypb.HTTPFilters{Mirrors: []*gatewaypb.HTTPMirror{{}}}}}}), "denominator"},
		"endless backends": {gatewayURL, routed(&gatewaypb.HTTPRoute{Namespace: "n", Name: "r", Rules: []*gatewaypb.HTTPRule{{
			Matches: []*gatewaypb.HTTPMatch{{Path: "/"}}, Backends: []*gatewaypb.HTTPBackend{nested(100)}}}}), "nested"},
		"TLS with nobody": {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", BackendTls: []*gatewaypb.BackendTLS{
			{Service: &gatewaypb.ServiceKey{Namespace: "n", Hostname: "h"}, Port: 443, ServerName: "x"}}}, "whom to expect"},
		"TLS twice": {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", BackendTls: []*gatewaypb.BackendTLS{
			{Service: &gatewaypb.ServiceKey{Namespace: "n", Hostname: "h"}, Port: 443, Problem: "x"}, {Service: &gatewaypb.ServiceKey{Namespace: "n", Hostname: "h"}, Port: 443, Problem: "y"}}}, "twice"},
		"clients without CAs": {gatewayURL, &gatewaypb.Gateway{Namespace: "n", Name: "g", Listeners: []*gatewaypb.Listener{
			{Name: "l", Port: 443, Bind: 20443, Protocol: gatewaypb.Listener_HTTPS, Clients: &gatewaypb.ClientValidation{}}}}, "CAs of clients"},
		"unknown type": {"type.googleapis.com/x.Y", wrapperspb.Bool(true), "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := proto.Marshal(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			_, err = decode(tc.url, body)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want one about %q", err, tc.want)
			}
		})
	}
}

// An IPv4 address in IPv6 form is the IPv4 address, also where it has a prefix length.
func TestMappedAddresses(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.1.0.0").AsSlice()
	body, _ := proto.Marshal(&securitypb.Authorization{Name: "p", Namespace: "n", Rules: []*securitypb.Rule{{Clauses: []*securitypb.Clause{{
		Matches: []*securitypb.Match{{SourceIps: []*securitypb.Address{{Address: mapped, Length: 112}}}}}}}}})
	v, err := decode(authorizationURL, body)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.policy.Rules[0].Clauses[0].Matches[0].SourceIPs[0]; got != netip.MustParsePrefix("10.1.0.0/16") {
		t.Errorf("prefix is %s", got)
	}
}

// Whatever is accepted is given back unchanged by another round, and has the same version.
func FuzzDecode(f *testing.F) {
	urls := []string{addressURL, authorizationURL, gatewayURL, bundleURL}
	for _, v := range []value{
		{workload: samplePod()}, {workload: sampleGatewayPod()}, {workload: sampleSplitHorizon()}, {service: sampleService()}, {policy: samplePolicy()}, {gateway: sampleGateway()}, {bundle: sampleBundle()},
	} {
		url, body, err := encodeValue(v)
		if err != nil {
			f.Fatal(err)
		}
		for i := range urls {
			if urls[i] == url {
				f.Add(uint8(i), body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		first, err := decode(urls[int(which)%len(urls)], body)
		if err != nil {
			return
		}
		if first.name() == "" {
			t.Fatal("accepted a resource without a name")
		}
		url, encoded, err := encodeValue(first)
		if err != nil {
			t.Fatalf("accepted %+v, which cannot be encoded: %v", first, err)
		}
		second, err := decode(url, encoded)
		if err != nil {
			t.Fatalf("accepted %+v, and not again: %v", first, err)
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("first\n%+v, then\n%+v", first, second)
		}
		_, again, err := encodeValue(second)
		if err != nil || version(again) != version(encoded) {
			t.Fatalf("version changed for the same content (%v)", err)
		}
	})
}
