// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxPolicyValues is how many rules, and values in them, one policy may have, in all names of our trust domain: some 2 MiB on the wire, of which receivers take 4 at once. No honest
// policy has nearly as many.
const maxPolicyValues = 32768

// compiled is an AuthorizationPolicy as it is decided: where requests are seen, and below L7.
type compiled struct {
	policy *mesh.Policy // nil: it cannot be decided at all
	// reason and message are of Accepted=False, if something could not be kept.
	reason, message string
	// below is what is decided otherwise where no requests are seen; empty: nothing.
	below string
}

// lost is what is to be said of a policy that is decided below L7.
func (c compiled) lost() (reason, message string) {
	switch {
	case c.below == "":
		return c.reason, c.message
	case c.message == "":
		return ReasonPartlyInForce, c.below
	}
	return cmp.Or(c.reason, ReasonPartlyInForce), c.message + "; " + c.below
}

// compile turns an AuthorizationPolicy into what gateways and, without what is asked of requests, node proxies can decide. What nobody here knows makes an ALLOW rule
// vanish and a DENY rule wider: never does it let in more than was written. The answer is kept until the object changes.
func (x *index) compile(p *world.AuthorizationPolicy) compiled {
	if c, ok := x.compiled[p.Key]; ok {
		return c
	}
	c := x.compileAnew(p)
	x.compiled[p.Key] = c
	return c
}

func (x *index) compileAnew(p *world.AuthorizationPolicy) compiled {
	out := &mesh.Policy{Name: p.Name, Namespace: p.Namespace, DryRun: p.DryRun}
	switch p.Action {
	case "ALLOW":
		out.Action = mesh.Allow
	case "DENY":
		out.Action = mesh.Deny
	default:
		return compiled{reason: "UnsupportedAction", message: fmt.Sprintf("spec.action %s is not supported: the policy is not in force", p.Action)}
	}
	switch {
	case len(p.Selector) > 0 || p.HasTargets:
		out.Scope = mesh.PolicyWorkloads
	case p.Namespace == x.config.SystemNamespace:
		out.Scope = mesh.PolicyGlobal
	default:
		out.Scope = mesh.PolicyNamespace
	}
	if values := valuesOf(p) * max(1, len(x.domainNames())); values > maxPolicyValues {
		allowed := "it allows nothing"
		if out.Action == mesh.Deny {
			out.Rules, allowed = []mesh.PolicyRule{{}}, "it denies everything"
		}
		return compiled{policy: out, reason: ReasonTooMany, message: fmt.Sprintf("spec.rules has more than %d values, in all names of the trust domain: proxies take no more, and until there are fewer %s", maxPolicyValues, allowed)}
	}
	var notes, below []string
	for i, r := range p.Rules {
		t := ruleTranslator{namespace: p.Namespace, deny: out.Action == mesh.Deny, names: x.domainNames(), path: fmt.Sprintf("spec.rules[%d]", i)}
		if rule, ok := t.rule(r); ok {
			out.Rules = append(out.Rules, rule)
		}
		notes = append(notes, t.notes[:min(len(t.notes), maxNotes-len(notes))]...)
		below = append(below, t.below[:min(len(t.below), maxNotes-len(below))]...)
	}
	c := compiled{policy: out, below: strings.Join(below, "; ")}
	if len(notes) > 0 {
		c.reason, c.message = ReasonPartlyInForce, strings.Join(notes, "; ")
	}
	return c
}

// policy is what node proxies are told of an AuthorizationPolicy, and what is to be said on it.
func (x *index) policy(k world.Key, exported func(serviceName) bool) (*mesh.Policy, []Finding) {
	p := x.state.AuthorizationPolicies[k]
	if p == nil || k.Cluster != x.config.LocalCluster {
		return nil, nil
	}
	c := x.compile(p)
	if p.HasTargets {
		return nil, x.targetFindings(p, c, exported)
	}
	policy := c.policy
	if policy != nil {
		policy = policy.BelowL7()
	}
	reason, message := c.lost()
	if beyond := x.beyondGate(p); beyond != "" {
		reason, message = ReasonTooMany, strings.Join(slices.DeleteFunc([]string{beyond, message}, func(s string) bool { return s == "" }), "; ")
	}
	if reason == "" {
		return policy, nil
	}
	return policy, []Finding{{Type: ConditionAccepted, Status: isFalse, Reason: reason, Message: shorten(message), Generation: p.Generation}}
}

// maxNotes is how many things that could not be kept are told of one policy: what is told is cut off after some of them anyway.
const maxNotes = 8

// ruleTranslator collects what could not be kept of one rule.
type ruleTranslator struct {
	namespace string
	deny      bool
	names     []string // our trust domain and its aliases, if it has some
	path      string
	notes     []string
	below     []string // what is lost where no requests are seen
	dropped   bool     // the rule cannot be kept
}

// above says that a part of the rule is decided only where requests are seen.
func (t *ruleTranslator) above(what string) {
	if t.deny {
		t.below = append(t.below, t.path+what+": without it, the rule denies more")
		return
	}
	t.below = append(t.below, t.path+what+": the rule is not in force, so less is allowed")
}

// lose says that a part of the rule cannot be decided here: an ALLOW rule is dropped, a DENY rule does without the part.
func (t *ruleTranslator) lose(what string) {
	t.dropped = t.dropped || !t.deny
	if len(t.notes) == maxNotes {
		return
	}
	if t.deny {
		t.notes = append(t.notes, t.path+what+": without it, the rule denies more")
	} else {
		t.notes = append(t.notes, t.path+what+": the rule is not in force, so less is allowed")
	}
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
		if s.Foreign {
			t.lose(at + " asks for what a request says of its origin, which nobody here believes")
		}
		principals, notPrincipals := t.principals(s, at)
		from = append(from, mesh.PolicyMatch{
			Principals: principals, NotPrincipals: notPrincipals,
			Namespaces: t.texts(s.Namespaces, at+".namespaces"), NotNamespaces: t.texts(s.NotNamespaces, at+".notNamespaces"),
			ServiceAccounts: t.accounts(s.ServiceAccounts, at+".serviceAccounts"), NotServiceAccounts: t.accounts(s.NotServiceAccounts, at+".notServiceAccounts"),
			SourceIPs: t.prefixes(s.IPBlocks, at+".ipBlocks"), NotSourceIPs: t.prefixes(s.NotIPBlocks, at+".notIpBlocks"),
		})
	}
	add(from)
	for i, o := range r.To {
		at := fmt.Sprintf(".to[%d].operation", i)
		request := t.request(o, at)
		if request != nil {
			t.above(at + " asks for what only an L7 proxy can know")
		}
		to = append(to, mesh.PolicyMatch{
			Request:          request,
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
			m.Namespaces, m.NotNamespaces = t.texts(w.Values, at+".values"), t.texts(w.NotValues, at+".notValues")
		case "source.principal":
			m.Principals, m.NotPrincipals = t.identities(w.Values, at+".values"), t.identities(w.NotValues, at+".notValues")
		case "source.serviceAccount":
			m.ServiceAccounts, m.NotServiceAccounts = t.accounts(w.Values, at+".values"), t.accounts(w.NotValues, at+".notValues")
		case "destination.ip":
			m.DestinationIPs, m.NotDestinationIPs = t.prefixes(w.Values, at+".values"), t.prefixes(w.NotValues, at+".notValues")
		case "destination.port":
			m.DestinationPorts, m.NotDestinationPorts = t.ports(w.Values, at+".values"), t.ports(w.NotValues, at+".notValues")
		default:
			if m.Request = t.condition(w, at); m.Request == nil {
				continue
			}
		}
		add([]mesh.PolicyMatch{m})
	}
	return out, !t.dropped
}

func emptyMatch(m mesh.PolicyMatch) bool { return m.IsEmpty() }

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
	peer := x.podPeer(p)
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
