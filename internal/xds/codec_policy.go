// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/securitypb"
)

func policyToProto(p *mesh.Policy) *securitypb.Authorization {
	out := &securitypb.Authorization{
		Name:      p.Name,
		Namespace: p.Namespace,
		Scope:     securitypb.Scope(p.Scope),
		Action:    securitypb.Action(p.Action),
		DryRun:    p.DryRun,
	}
	for _, rule := range p.Rules {
		r := &securitypb.Rule{}
		for _, clause := range rule.Clauses {
			c := &securitypb.Clause{}
			for _, match := range clause.Matches {
				c.Matches = append(c.Matches, matchToProto(match))
			}
			r.Clauses = append(r.Clauses, c)
		}
		out.Rules = append(out.Rules, r)
	}
	return out
}

func matchToProto(m mesh.PolicyMatch) *securitypb.Match {
	return &securitypb.Match{
		Namespaces:          stringsToProto(m.Namespaces),
		NotNamespaces:       stringsToProto(m.NotNamespaces),
		Principals:          stringsToProto(m.Principals),
		NotPrincipals:       stringsToProto(m.NotPrincipals),
		SourceIps:           prefixesToProto(m.SourceIPs),
		NotSourceIps:        prefixesToProto(m.NotSourceIPs),
		DestinationIps:      prefixesToProto(m.DestinationIPs),
		NotDestinationIps:   prefixesToProto(m.NotDestinationIPs),
		DestinationPorts:    portNumbersToProto(m.DestinationPorts),
		NotDestinationPorts: portNumbersToProto(m.NotDestinationPorts),
		ServiceAccounts:     accountsToProto(m.ServiceAccounts),
		NotServiceAccounts:  accountsToProto(m.NotServiceAccounts),
		Extensions:          requestToProto(m.Request),
	}
}

// policyFromProto refuses a policy that holds a condition it cannot read, rather than reading it as a weaker one.
func policyFromProto(p *securitypb.Authorization) (*mesh.Policy, error) {
	var r policyReader
	out := &mesh.Policy{
		Name:      r.must("name", p.GetName(), maxName),
		Namespace: r.must("namespace", p.GetNamespace(), maxName),
		DryRun:    p.GetDryRun(),
	}
	if _, _, ok := splitName(out.Key()); !ok {
		r.fail("policy %q has a slash in its namespace or name", out.Key())
	}
	switch s := p.GetScope(); {
	case s >= 0 && s <= securitypb.Scope_WORKLOAD_SELECTOR:
		out.Scope = mesh.PolicyScope(s)
	default:
		r.fail("scope %d is not known", s)
	}
	switch a := p.GetAction(); a {
	case securitypb.Action_ALLOW, securitypb.Action_DENY:
		out.Action = mesh.PolicyAction(a)
	default:
		r.fail("action %d is not known", a)
	}
	for _, rule := range p.GetRules() {
		var to mesh.PolicyRule
		r.spend(1)
		for _, clause := range rule.GetClauses() {
			var c mesh.PolicyClause
			r.spend(1)
			for _, match := range clause.GetMatches() {
				c.Matches = append(c.Matches, r.match(match))
			}
			to.Clauses = append(to.Clauses, c)
		}
		out.Rules = append(out.Rules, to)
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

// standInFor gives a policy that lets in less than one of which a part cannot be read: it allows nothing, or denies everything. nil: it is not known what that is for.
func standInFor(body []byte) *mesh.Policy {
	var p securitypb.Authorization
	if proto.Unmarshal(body, &p) != nil {
		return nil
	}
	out, err := policyFromProto(&securitypb.Authorization{Name: p.GetName(), Namespace: p.GetNamespace(), Scope: p.GetScope(), Action: p.GetAction(), DryRun: p.GetDryRun()})
	if err == nil && out.Action == mesh.Deny {
		out.Rules = []mesh.PolicyRule{{}}
	}
	return out
}

// policyReader counts everything that a policy holds: rules, clauses and values nest, so only their sum is a bound.
type policyReader struct {
	reader
	spent int
}

func (r *policyReader) spend(n int) bool {
	r.spent += n
	return r.count("rules", r.spent, maxMatches)
}

func (r *policyReader) match(m *securitypb.Match) mesh.PolicyMatch {
	r.spend(1)
	return mesh.PolicyMatch{
		Request:             r.request(m.GetExtensions()),
		Namespaces:          r.strings("namespace", m.GetNamespaces()),
		NotNamespaces:       r.strings("not_namespace", m.GetNotNamespaces()),
		Principals:          r.strings("principal", m.GetPrincipals()),
		NotPrincipals:       r.strings("not_principal", m.GetNotPrincipals()),
		SourceIPs:           r.prefixes("source_ip", m.GetSourceIps()),
		NotSourceIPs:        r.prefixes("not_source_ip", m.GetNotSourceIps()),
		DestinationIPs:      r.prefixes("destination_ip", m.GetDestinationIps()),
		NotDestinationIPs:   r.prefixes("not_destination_ip", m.GetNotDestinationIps()),
		DestinationPorts:    r.ports("destination_port", m.GetDestinationPorts()),
		NotDestinationPorts: r.ports("not_destination_port", m.GetNotDestinationPorts()),
		ServiceAccounts:     r.accounts("service_account", m.GetServiceAccounts()),
		NotServiceAccounts:  r.accounts("not_service_account", m.GetNotServiceAccounts()),
	}
}

func (r *policyReader) strings(field string, in []*securitypb.StringMatch) []mesh.StringMatch {
	if len(in) == 0 || !r.spend(len(in)) {
		return nil
	}
	out := make([]mesh.StringMatch, 0, len(in))
	for _, m := range in {
		switch t := m.GetMatchType().(type) {
		case *securitypb.StringMatch_Exact:
			out = append(out, mesh.StringMatch{Kind: mesh.MatchExact, Value: r.text(field, t.Exact, maxIdentity)})
		case *securitypb.StringMatch_Prefix:
			out = append(out, mesh.StringMatch{Kind: mesh.MatchPrefix, Value: r.text(field, t.Prefix, maxIdentity)})
		case *securitypb.StringMatch_Suffix:
			out = append(out, mesh.StringMatch{Kind: mesh.MatchSuffix, Value: r.text(field, t.Suffix, maxIdentity)})
		case *securitypb.StringMatch_Presence:
			out = append(out, mesh.StringMatch{Kind: mesh.MatchPresence})
		default:
			r.fail("%s has no match that is known", field)
		}
	}
	return out
}

func (r *policyReader) prefixes(field string, in []*securitypb.Address) []netip.Prefix {
	if len(in) == 0 || !r.spend(len(in)) {
		return nil
	}
	out := make([]netip.Prefix, 0, len(in))
	for _, a := range in {
		p := r.prefix(field, a.GetAddress(), a.GetLength())
		if !p.IsValid() {
			return nil
		}
		out = append(out, p)
	}
	return out
}

func (r *policyReader) ports(field string, in []uint32) []uint16 {
	if len(in) == 0 || !r.spend(len(in)) {
		return nil
	}
	out := make([]uint16, 0, len(in))
	for _, p := range in {
		out = append(out, r.port(field, p, true))
	}
	return out
}

func (r *policyReader) accounts(field string, in []*securitypb.ServiceAccountMatch) []mesh.ServiceAccountMatch {
	if len(in) == 0 || !r.spend(len(in)) {
		return nil
	}
	out := make([]mesh.ServiceAccountMatch, 0, len(in))
	for _, a := range in {
		out = append(out, mesh.ServiceAccountMatch{
			Namespace:      r.text(field+" namespace", a.GetNamespace(), maxName),
			ServiceAccount: r.text(field, a.GetServiceAccount(), maxName),
		})
	}
	return out
}

func stringsToProto(in []mesh.StringMatch) []*securitypb.StringMatch {
	var out []*securitypb.StringMatch
	for _, m := range in {
		s := &securitypb.StringMatch{}
		switch m.Kind {
		case mesh.MatchExact:
			s.MatchType = &securitypb.StringMatch_Exact{Exact: m.Value}
		case mesh.MatchPrefix:
			s.MatchType = &securitypb.StringMatch_Prefix{Prefix: m.Value}
		case mesh.MatchSuffix:
			s.MatchType = &securitypb.StringMatch_Suffix{Suffix: m.Value}
		case mesh.MatchPresence:
			s.MatchType = &securitypb.StringMatch_Presence{Presence: &emptypb.Empty{}}
		}
		out = append(out, s)
	}
	return out
}

func prefixesToProto(in []netip.Prefix) []*securitypb.Address {
	var out []*securitypb.Address
	for _, p := range in {
		out = append(out, &securitypb.Address{Address: p.Addr().AsSlice(), Length: uint32(max(p.Bits(), 0))})
	}
	return out
}

func portNumbersToProto(in []uint16) []uint32 {
	var out []uint32
	for _, p := range in {
		out = append(out, uint32(p))
	}
	return out
}

func accountsToProto(in []mesh.ServiceAccountMatch) []*securitypb.ServiceAccountMatch {
	var out []*securitypb.ServiceAccountMatch
	for _, a := range in {
		out = append(out, &securitypb.ServiceAccountMatch{Namespace: a.Namespace, ServiceAccount: a.ServiceAccount})
	}
	return out
}
