// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Caller is an inbound connection as policies see it.
type Caller struct {
	// Peer is what the other end of the tunnel that ends here proved; zero for plaintext.
	Peer mesh.Identity
	// Source is the address from which the connection came: of the pod, or of the gateway in between.
	Source netip.Addr
	// Destination is where in the local pod it goes.
	Destination netip.AddrPort
}

// Verdict is the answer of Authorize.
type Verdict struct {
	Allowed bool
	// Policy is the one that decided, "namespace/name"; empty if none did: nothing to say, or no ALLOW policy matched.
	Policy string
	// DryRun lists policies that would have decided otherwise, were they in force.
	DryRun []string
}

// Authorize judges a caller by the policies that apply to its destination: any DENY that matches denies; without any ALLOW the rest
// is allowed; otherwise one ALLOW must match. It is pure.
func Authorize(policies []*mesh.Policy, c Caller) Verdict {
	var verdict Verdict
	allows, allowedBy := false, ""
	for _, p := range policies {
		if p.DryRun {
			if (p.Action == mesh.Deny) == matches(p, c) {
				verdict.DryRun = append(verdict.DryRun, p.Key())
			}
			continue
		}
		switch p.Action {
		case mesh.Deny:
			if matches(p, c) {
				verdict.Policy = p.Key()
				return verdict
			}
		default:
			allows = true
			if allowedBy == "" && matches(p, c) {
				allowedBy = p.Key()
			}
		}
	}
	verdict.Allowed, verdict.Policy = !allows || allowedBy != "", allowedBy
	return verdict
}

func matches(p *mesh.Policy, c Caller) bool {
	return slices.ContainsFunc(p.Rules, func(rule mesh.PolicyRule) bool {
		return !slices.ContainsFunc(rule.Clauses, func(clause mesh.PolicyClause) bool {
			return len(clause.Matches) > 0 && !slices.ContainsFunc(clause.Matches, func(m mesh.PolicyMatch) bool { return holds(&m, c) })
		})
	})
}

// holds says whether all kinds of fields that are set agree with the caller.
func holds(m *mesh.PolicyMatch, c Caller) bool {
	any := false
	// check takes one kind: whether it is set, and whether one of it fits.
	check := func(positives, negatives int, positive, negative func() bool) bool {
		any = any || positives+negatives > 0
		return (positives == 0 || positive()) && (negatives == 0 || !negative())
	}
	text := func(value string, in []mesh.StringMatch) func() bool {
		return func() bool {
			return slices.ContainsFunc(in, func(s mesh.StringMatch) bool { return fits(s, value) })
		}
	}
	account := func(in []mesh.ServiceAccountMatch) func() bool {
		return func() bool {
			return !c.Peer.IsZero() && slices.Contains(in, mesh.ServiceAccountMatch{Namespace: c.Peer.Namespace, ServiceAccount: c.Peer.ServiceAccount})
		}
	}
	within := func(addr netip.Addr, in []netip.Prefix) func() bool {
		addr = addr.Unmap()
		return func() bool { return slices.ContainsFunc(in, func(p netip.Prefix) bool { return p.Contains(addr) }) }
	}
	port := func(in []uint16) func() bool {
		return func() bool { return slices.Contains(in, c.Destination.Port()) }
	}
	return check(len(m.Namespaces), len(m.NotNamespaces), text(c.Peer.Namespace, m.Namespaces), text(c.Peer.Namespace, m.NotNamespaces)) &&
		check(len(m.Principals), len(m.NotPrincipals), text(c.Peer.Principal(), m.Principals), text(c.Peer.Principal(), m.NotPrincipals)) &&
		check(len(m.ServiceAccounts), len(m.NotServiceAccounts), account(m.ServiceAccounts), account(m.NotServiceAccounts)) &&
		check(len(m.SourceIPs), len(m.NotSourceIPs), within(c.Source, m.SourceIPs), within(c.Source, m.NotSourceIPs)) &&
		check(len(m.DestinationIPs), len(m.NotDestinationIPs),
			within(c.Destination.Addr(), m.DestinationIPs), within(c.Destination.Addr(), m.NotDestinationIPs)) &&
		check(len(m.DestinationPorts), len(m.NotDestinationPorts), port(m.DestinationPorts), port(m.NotDestinationPorts)) &&
		any
}

// fits compares one string. Nothing fits the empty string: it stands for an identity that nobody proved.
func fits(s mesh.StringMatch, value string) bool {
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
	default:
		return false
	}
}
