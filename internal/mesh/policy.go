// SPDX-License-Identifier: Apache-2.0

package mesh

import "net/netip"

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

// Policy is one L4 authorization policy. Rules are ORed, clauses of a rule ANDed, matches of a clause ORed, and inside a
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
)

// StringMatch compares one string.
type StringMatch struct {
	Kind  StringMatchKind
	Value string
}
