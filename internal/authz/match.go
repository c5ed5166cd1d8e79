// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// subject is a caller with what the comparisons need, made once for all of them.
type subject struct {
	peer         mesh.Identity
	principal    string // "" for plaintext
	account      mesh.ServiceAccountMatch
	source, dest netip.Addr
	port         uint16
	request      *Request
	paths        pathReadings
	host         hostForms
	folded       map[string][]string // headers by the names that some take theirs for (see underscored)
	looked       bool                // folded is made
	spent        int                 // of work
	later        bool                // what a match decides: it is of an index whose requests are judged elsewhere
	deny         bool                // what a match decides: it is of a DENY policy
}

// subjectOf strips what would hide an address from a CIDR: the IPv6 form of an IPv4 address, and the zone of a link-local one.
func subjectOf(c Caller) subject {
	return subject{
		peer: c.Peer, principal: c.Peer.Principal(), account: mesh.ServiceAccountMatch{Namespace: c.Peer.Namespace, ServiceAccount: c.Peer.ServiceAccount},
		source: c.Source.Unmap().WithZone(""), dest: c.Destination.Addr().Unmap().WithZone(""), port: c.Destination.Port(), request: c.Request,
	}
}

// matches says whether one of the policy's rules holds. A policy without rules never matches.
func matches(p *mesh.Policy, s *subject) bool {
	for i := range p.Rules {
		if ruleHolds(&p.Rules[i], s) {
			return true
		}
	}
	return false
}

// ruleHolds says whether all clauses of a rule hold. One without matches holds.
func ruleHolds(r *mesh.PolicyRule, s *subject) bool {
	for i := range r.Clauses {
		if all := r.Clauses[i].Matches; len(all) > 0 && !oneHolds(all, s) {
			return false
		}
	}
	return true
}

func oneHolds(all []mesh.PolicyMatch, s *subject) bool {
	for i := range all {
		if holds(&all[i], s) {
			return true
		}
	}
	return false
}

// holds says whether all kinds of fields that are set agree with the caller; a match without any never holds. Of each kind, one of the
// positives must fit, if there are any, and none of the negatives may.
func holds(m *mesh.PolicyMatch, s *subject) bool {
	agree := (len(m.Namespaces) == 0 || anyFits(m.Namespaces, s.peer.Namespace)) && !anyFits(m.NotNamespaces, s.peer.Namespace) &&
		(len(m.Principals) == 0 || anyFits(m.Principals, s.principal)) && !anyFits(m.NotPrincipals, s.principal) &&
		(len(m.ServiceAccounts) == 0 || isAccount(m.ServiceAccounts, s)) && !isAccount(m.NotServiceAccounts, s) &&
		(len(m.SourceIPs) == 0 || within(s.source, m.SourceIPs)) && !within(s.source, m.NotSourceIPs) &&
		(len(m.DestinationIPs) == 0 || within(s.dest, m.DestinationIPs)) && !within(s.dest, m.NotDestinationIPs) &&
		(len(m.DestinationPorts) == 0 || slices.Contains(m.DestinationPorts, s.port)) && !slices.Contains(m.NotDestinationPorts, s.port) &&
		(m.Request == nil || s.requestHolds(m.Request))
	return agree && !m.IsEmpty()
}

func isAccount(in []mesh.ServiceAccountMatch, s *subject) bool {
	return !s.peer.IsZero() && slices.Contains(in, s.account)
}

func within(addr netip.Addr, in []netip.Prefix) bool {
	for _, p := range in {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func anyFits(in []mesh.StringMatch, value string) bool {
	for i := range in {
		if fits(&in[i], value) {
			return true
		}
	}
	return false
}

// fits compares one string. Nothing fits the empty string: it stands for an identity that nobody proved.
func fits(s *mesh.StringMatch, value string) bool {
	if value == "" {
		return false
	}
	switch s.Kind {
	case mesh.MatchExact:
		return s.Value == value
	case mesh.MatchPrefix:
		return strings.HasPrefix(value, s.Value)
	case mesh.MatchSuffix:
		return strings.HasSuffix(value, s.Value)
	case mesh.MatchPresence:
		return true
	case mesh.MatchTemplate:
		return fitsTemplate(s.Value, value)
	default:
		return false
	}
}
