// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// policy turns an AuthorizationPolicy into what a node proxy can decide. What only an L7 proxy knows makes an ALLOW rule vanish
// and a DENY rule wider: never does it let in more than was written.
func (x *index) policy(k world.Key) (*mesh.Policy, []Finding) {
	p := x.state.AuthorizationPolicies[k]
	if p == nil || k.Cluster != x.config.LocalCluster {
		return nil, nil
	}
	if p.HasTargets {
		return nil, x.targetFindings(p)
	}
	out := &mesh.Policy{Name: p.Name, Namespace: p.Namespace, DryRun: p.DryRun}
	finding := func(reason, message string) []Finding {
		return []Finding{{Type: ConditionAccepted, Status: isFalse, Reason: reason, Message: shorten(message), Generation: p.Generation}}
	}
	switch p.Action {
	case "ALLOW":
		out.Action = mesh.Allow
	case "DENY":
		out.Action = mesh.Deny
	default:
		return nil, finding("UnsupportedAction", fmt.Sprintf("spec.action %s is not supported below L7: the policy is not in force", p.Action))
	}
	switch {
	case len(p.Selector) > 0:
		out.Scope = mesh.PolicyWorkloads
	case p.Namespace == x.config.SystemNamespace:
		out.Scope = mesh.PolicyGlobal
	default:
		out.Scope = mesh.PolicyNamespace
	}
	var notes []string
	for i, r := range p.Rules {
		t := ruleTranslator{namespace: p.Namespace, deny: out.Action == mesh.Deny, path: fmt.Sprintf("spec.rules[%d]", i)}
		if rule, ok := t.rule(r); ok {
			out.Rules = append(out.Rules, rule)
		}
		notes = append(notes, t.notes...)
	}
	if len(notes) > 0 {
		return out, finding("PartlyInForce", strings.Join(notes, "; "))
	}
	return out, nil
}

// ruleTranslator collects what could not be kept of one rule.
type ruleTranslator struct {
	namespace string
	deny      bool
	path      string
	notes     []string
	dropped   bool // the rule cannot be kept
}

// lose says that a part of the rule cannot be decided here: an ALLOW rule is dropped, a DENY rule does without the part.
func (t *ruleTranslator) lose(what string) {
	if t.deny {
		t.notes = append(t.notes, t.path+what+": without it, the rule denies more")
		return
	}
	t.dropped = true
	t.notes = append(t.notes, t.path+what+": the rule is not in force, so less is allowed")
}

func (t *ruleTranslator) rule(r world.PolicyRule) (mesh.PolicyRule, bool) {
	var out mesh.PolicyRule
	add := func(matches []mesh.PolicyMatch) {
		// A match without a field holds for everything, and so does the clause.
		if len(matches) > 0 && !slices.ContainsFunc(matches, emptyMatch) {
			out.Clauses = append(out.Clauses, mesh.PolicyClause{Matches: matches})
		}
	}
	var from, to []mesh.PolicyMatch
	for i, s := range r.From {
		at := fmt.Sprintf(".from[%d].source", i)
		if s.L7 {
			t.lose(at + " asks for what only an L7 proxy can know")
		}
		from = append(from, mesh.PolicyMatch{
			Principals: stringMatches(s.Principals), NotPrincipals: stringMatches(s.NotPrincipals),
			Namespaces: stringMatches(s.Namespaces), NotNamespaces: stringMatches(s.NotNamespaces),
			ServiceAccounts: t.accounts(s.ServiceAccounts), NotServiceAccounts: t.accounts(s.NotServiceAccounts),
			SourceIPs: t.prefixes(s.IPBlocks, at+".ipBlocks"), NotSourceIPs: t.prefixes(s.NotIPBlocks, at+".notIpBlocks"),
		})
	}
	add(from)
	for i, o := range r.To {
		at := fmt.Sprintf(".to[%d].operation", i)
		if o.L7 {
			t.lose(at + " asks for what only an L7 proxy can know")
		}
		to = append(to, mesh.PolicyMatch{
			DestinationPorts: t.ports(o.Ports, at+".ports"), NotDestinationPorts: t.ports(o.NotPorts, at+".notPorts"),
		})
	}
	add(to)
	for i, w := range r.When {
		at := fmt.Sprintf(".when[%d]", i)
		m := mesh.PolicyMatch{}
		switch w.Key {
		case "source.ip":
			m.SourceIPs, m.NotSourceIPs = t.prefixes(w.Values, at+".values"), t.prefixes(w.NotValues, at+".notValues")
		case "source.namespace":
			m.Namespaces, m.NotNamespaces = stringMatches(w.Values), stringMatches(w.NotValues)
		case "source.principal":
			m.Principals, m.NotPrincipals = stringMatches(w.Values), stringMatches(w.NotValues)
		case "source.serviceAccount":
			m.ServiceAccounts, m.NotServiceAccounts = t.accounts(w.Values), t.accounts(w.NotValues)
		case "destination.ip":
			m.DestinationIPs, m.NotDestinationIPs = t.prefixes(w.Values, at+".values"), t.prefixes(w.NotValues, at+".notValues")
		case "destination.port":
			m.DestinationPorts, m.NotDestinationPorts = t.ports(w.Values, at+".values"), t.ports(w.NotValues, at+".notValues")
		default:
			t.lose(at + ".key " + strconv.Quote(w.Key) + " is something that only an L7 proxy can know")
			continue
		}
		add([]mesh.PolicyMatch{m})
	}
	return out, !t.dropped
}

func emptyMatch(m mesh.PolicyMatch) bool {
	return len(m.Namespaces)+len(m.NotNamespaces)+len(m.Principals)+len(m.NotPrincipals)+len(m.ServiceAccounts)+
		len(m.NotServiceAccounts)+len(m.SourceIPs)+len(m.NotSourceIPs)+len(m.DestinationIPs)+len(m.NotDestinationIPs)+
		len(m.DestinationPorts)+len(m.NotDestinationPorts) == 0
}

// stringMatches reads Istio's patterns: "*", "prefix*", "*suffix", or the string itself.
func stringMatches(patterns []string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, p := range patterns {
		switch {
		case p == "*":
			out = append(out, mesh.StringMatch{Kind: mesh.MatchPresence})
		case strings.HasSuffix(p, "*"):
			out = append(out, mesh.StringMatch{Kind: mesh.MatchPrefix, Value: strings.TrimSuffix(p, "*")})
		case strings.HasPrefix(p, "*"):
			out = append(out, mesh.StringMatch{Kind: mesh.MatchSuffix, Value: strings.TrimPrefix(p, "*")})
		default:
			out = append(out, mesh.StringMatch{Value: p})
		}
	}
	return out
}

// accounts reads "<namespace>/<service account>" or, in the policy's own namespace, "<service account>".
func (t *ruleTranslator) accounts(in []string) []mesh.ServiceAccountMatch {
	var out []mesh.ServiceAccountMatch
	for _, s := range in {
		namespace, account, ok := strings.Cut(s, "/")
		if !ok {
			namespace, account = t.namespace, s
		}
		out = append(out, mesh.ServiceAccountMatch{Namespace: namespace, ServiceAccount: account})
	}
	return out
}

func (t *ruleTranslator) prefixes(in []string, what string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		p, err := netip.ParsePrefix(s)
		if addr, notPrefix := netip.ParseAddr(s); err != nil && notPrefix == nil {
			p, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			t.lose(fmt.Sprintf("%s: %q is no IP address or CIDR", what, s))
			continue
		}
		out = append(out, p)
	}
	return out
}

func (t *ruleTranslator) ports(in []string, what string) []uint16 {
	var out []uint16
	for _, s := range in {
		p, err := strconv.ParseUint(s, 10, 16)
		if err != nil || p == 0 {
			t.lose(fmt.Sprintf("%s: %q is no port", what, s))
			continue
		}
		out = append(out, uint16(p))
	}
	return out
}

// strictPolicy is the name of the policy that stands for PeerAuthentication STRICT, as ztunnel's users know it.
const strictPolicy = "istio_converted_static_strict"

const (
	modeStrict     = "STRICT"
	modePermissive = "PERMISSIVE"
	modeUnset      = "UNSET"
)

// plaintext matches a peer that proved nothing.
var plaintext = []mesh.StringMatch{{Kind: mesh.MatchPresence}}

// peerPolicies are the policies that stand for all PeerAuthentications.
func (x *index) peerPolicies() map[string]*mesh.Policy {
	out := map[string]*mesh.Policy{}
	for _, keys := range x.peersIn {
		for k := range keys {
			p := x.state.PeerAuthentications[k]
			if p.Mode == modeStrict {
				static := &mesh.Policy{
					Name: strictPolicy, Namespace: x.config.SystemNamespace, Scope: mesh.PolicyWorkloads, Action: mesh.Deny,
					Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{NotPrincipals: plaintext}}}}}},
				}
				out[static.Key()] = static
			}
			if converted := x.portPolicy(p); converted != nil {
				out[converted.Key()] = converted
			}
		}
	}
	return out
}

// portPolicy stands for a PeerAuthentication with modes of single ports; nil if it needs none.
func (x *index) portPolicy(p *world.PeerAuthentication) *mesh.Policy {
	if len(p.Ports) == 0 || len(p.Selector) == 0 {
		return nil // Istio, too, heeds ports only together with a selector
	}
	mode := x.peerMode(p, p.Namespace)
	m := mesh.PolicyMatch{NotPrincipals: plaintext}
	for _, port := range slices.Sorted(maps.Keys(p.Ports)) {
		strict := p.Ports[port] == modeStrict || p.Ports[port] == modeUnset && mode == modeStrict
		switch {
		case mode == modeStrict && !strict:
			m.NotDestinationPorts = append(m.NotDestinationPorts, port)
		case mode != modeStrict && strict:
			m.DestinationPorts = append(m.DestinationPorts, port)
		}
	}
	if len(m.DestinationPorts)+len(m.NotDestinationPorts) == 0 {
		return nil
	}
	return &mesh.Policy{
		Name: "converted_peer_authentication_" + p.Name, Namespace: p.Namespace, Scope: mesh.PolicyWorkloads, Action: mesh.Deny,
		Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{m}}}}},
	}
}

// peerMode is the mode that a PeerAuthentication asks for, with what it leaves unset taken from the namespace or the mesh.
func (x *index) peerMode(p *world.PeerAuthentication, namespace string) string {
	if p != nil && p.Mode != modeUnset && p.Mode != "" {
		return p.Mode
	}
	for _, ns := range []string{namespace, x.config.SystemNamespace} {
		if o := x.oldestPeer(ns, func(o *world.PeerAuthentication) bool { return len(o.Selector) == 0 }); o != nil && o.Mode != modeUnset && o.Mode != "" {
			return o.Mode
		}
	}
	return modePermissive
}

// oldestPeer is the PeerAuthentication of a namespace that counts among those that fit.
func (x *index) oldestPeer(namespace string, fits func(*world.PeerAuthentication) bool) *world.PeerAuthentication {
	var best *world.PeerAuthentication
	for k := range x.peersIn[namespace] {
		p := x.state.PeerAuthentications[k]
		if fits(p) && (best == nil || cmp.Or(cmp.Compare(p.Created, best.Created), cmp.Compare(p.Name, best.Name)) < 0) {
			best = p
		}
	}
	return best
}

// policiesOf are the policies that a local pod must name because they select it, sorted.
func (x *index) policiesOf(p *world.Pod) []string {
	var out []string
	namespaces := []string{p.Namespace, x.config.SystemNamespace}
	if p.Namespace == x.config.SystemNamespace {
		namespaces = namespaces[:1]
	}
	for _, namespace := range namespaces {
		for k := range x.policiesIn[namespace] {
			a := x.state.AuthorizationPolicies[k]
			if len(a.Selector) > 0 && !a.HasTargets && selects(a.Selector, p.Labels) && (a.Action == "ALLOW" || a.Action == "DENY") {
				out = append(out, k.Namespace+"/"+k.Name)
			}
		}
	}
	peer := x.oldestPeer(p.Namespace, func(o *world.PeerAuthentication) bool { return len(o.Selector) > 0 && selects(o.Selector, p.Labels) })
	var converted *mesh.Policy
	if peer != nil {
		converted = x.portPolicy(peer)
	}
	switch {
	case converted != nil:
		out = append(out, converted.Key())
	case x.peerMode(peer, p.Namespace) == modeStrict:
		out = append(out, x.config.SystemNamespace+"/"+strictPolicy)
	}
	slices.Sort(out)
	return out
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
