// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"net/netip"
	"slices"
	"strings"
)

// PolicyScope is what a policy applies to.
type PolicyScope uint8

const (
	// PolicyGlobal applies to every workload.
	PolicyGlobal PolicyScope = iota
	// PolicyNamespace applies to the workloads of its namespace.
	PolicyNamespace
	// PolicyWorkloads applies to the workloads that name it in Workload.Policies.
	PolicyWorkloads
)

// PolicyAction is what a matching policy does.
type PolicyAction uint8

const (
	Allow PolicyAction = iota
	Deny
)

// Policy is one authorization policy. Rules are ORed, clauses of a rule ANDed, matches of a clause ORed, and inside a
// match every kind of field that is set must hold: one of its positives, and none of its negatives.
type Policy struct {
	Name, Namespace string
	Scope           PolicyScope
	Action          PolicyAction
	DryRun          bool
	Rules           []PolicyRule
}

// Key is "namespace/name", the policy's name on the discovery wire and in Workload.Policies.
func (p *Policy) Key() string { return p.Namespace + "/" + p.Name }

// PolicyRule holds when all of its clauses hold.
type PolicyRule struct{ Clauses []PolicyClause }

// PolicyClause holds when one of its matches holds, or when it has none.
type PolicyClause struct{ Matches []PolicyMatch }

// PolicyMatch is one alternative of a clause. A match with no field set never holds.
type PolicyMatch struct {
	Namespaces, NotNamespaces           []StringMatch
	Principals, NotPrincipals           []StringMatch // without the spiffe:// prefix
	ServiceAccounts, NotServiceAccounts []ServiceAccountMatch
	SourceIPs, NotSourceIPs             []netip.Prefix
	DestinationIPs, NotDestinationIPs   []netip.Prefix
	DestinationPorts                    []uint16
	NotDestinationPorts                 []uint16
	// Request is what only requests have; nil: nothing is asked of them. Node proxies are never told of one (Policy.BelowL7).
	Request *RequestMatch
}

// RequestMatch is the part of a match that is about a request.
type RequestMatch struct {
	Hosts, NotHosts     []StringMatch // in lower case
	Methods, NotMethods []StringMatch
	Paths, NotPaths     []StringMatch
	Headers             []HeaderMatch
}

// HeaderJudged says whether policies can be about a header, by its canonical name: it is part of what is asked, and not of how one connection carries it. Host is not either, as
// requests have it elsewhere (RequestMatch.Hosts).
func HeaderJudged(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", // RFC 9110 §7.6.1
		"Content-Length", "Expect", "Host":
		return false
	}
	return true
}

// HeaderMatch is about the values of one header, which is there for it to hold, if there are Values.
type HeaderMatch struct {
	Name              string // in its canonical form (http.CanonicalHeaderKey); HeaderJudged
	Values, NotValues []StringMatch
}

// ServiceAccountMatch names a service account in any trust domain.
type ServiceAccountMatch struct{ Namespace, ServiceAccount string }

// StringMatchKind says how a StringMatch compares.
type StringMatchKind uint8

const (
	MatchExact StringMatchKind = iota
	MatchPrefix
	MatchSuffix
	MatchPresence // any string but the empty one
	MatchTemplate // of a path: "{*}" stands for one element that is not empty, "{**}" at its end for any rest
)

// StringMatch compares one string.
type StringMatch struct {
	Kind  StringMatchKind
	Value string
}

// BelowL7 is the policy as it is decided where no requests are seen: an ALLOW rule that asks something of them is left out, so that less is allowed; a
// DENY rule goes without, and denies more. It is p itself if nothing is asked of requests.
func (p *Policy) BelowL7() *Policy {
	if !p.AsksRequests() {
		return p
	}
	out := *p
	out.Rules = nil
	for _, r := range p.Rules {
		if !r.asksRequests() {
			out.Rules = append(out.Rules, r)
			continue
		}
		if p.Action == Allow {
			continue
		}
		var without PolicyRule
		for _, c := range r.Clauses {
			if c, holds := c.belowL7(); !holds {
				without.Clauses = append(without.Clauses, c)
			}
		}
		out.Rules = append(out.Rules, without)
	}
	return &out
}

// belowL7 is the clause without requests; holds says that it holds for everything then.
func (c PolicyClause) belowL7() (_ PolicyClause, holds bool) {
	out := PolicyClause{Matches: slices.Clone(c.Matches)}
	for i := range out.Matches {
		if out.Matches[i].Request != nil {
			out.Matches[i].Request = nil
			holds = holds || out.Matches[i].IsEmpty()
		}
	}
	return out, holds
}

// IsEmpty says whether no field is set.
func (m *PolicyMatch) IsEmpty() bool {
	return len(m.Namespaces)+len(m.NotNamespaces)+len(m.Principals)+len(m.NotPrincipals)+len(m.ServiceAccounts)+len(m.NotServiceAccounts)+
		len(m.SourceIPs)+len(m.NotSourceIPs)+len(m.DestinationIPs)+len(m.NotDestinationIPs)+len(m.DestinationPorts)+len(m.NotDestinationPorts) == 0 && m.Request == nil
}

// AsksRequests says whether any rule asks something of requests.
func (p *Policy) AsksRequests() bool { return slices.ContainsFunc(p.Rules, PolicyRule.asksRequests) }

func (r PolicyRule) asksRequests() bool {
	return slices.ContainsFunc(r.Clauses, func(c PolicyClause) bool {
		return slices.ContainsFunc(c.Matches, func(m PolicyMatch) bool { return m.Request != nil })
	})
}

// ValidTemplate says whether a path with "{*}" or "{**}" means something: these stand for whole elements, "{**}" for the last one, and there is no
// other star or brace. (Istio lets plain elements follow "{**}", and what they mean there is not told in one way.)
func ValidTemplate(t string) bool {
	if !strings.HasPrefix(t, "/") {
		return false
	}
	last := false
	for e := range strings.SplitSeq(t[1:], "/") {
		switch {
		case last:
			return false
		case e == "{**}":
			last = true
		case e != "{*}" && strings.ContainsAny(e, "{}*"):
			return false
		}
	}
	return true
}
