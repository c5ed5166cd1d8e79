// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Longest values that mean something, in bytes; the wire takes no longer ones, so that one policy's cannot cost the others.
const (
	longestIdentity = 2048 // of a SPIFFE id (SPIFFE-ID §2.3)
	longestName     = 253  // of a Kubernetes name
)

// texts reads Istio's patterns: "*", "prefix*", "*suffix", or the string itself.
func (t *ruleTranslator) texts(patterns []string, what string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, p := range patterns {
		if len(p) > longestIdentity {
			t.lose(fmt.Sprintf("%s: a value of %d bytes is longer than any identity", what, len(p)))
			continue
		}
		out = append(out, stringMatch(p))
	}
	return out
}

func stringMatch(p string) mesh.StringMatch {
	switch {
	case p == "*":
		return mesh.StringMatch{Kind: mesh.MatchPresence}
	case strings.HasSuffix(p, "*"):
		return mesh.StringMatch{Kind: mesh.MatchPrefix, Value: strings.TrimSuffix(p, "*")}
	case strings.HasPrefix(p, "*"):
		return mesh.StringMatch{Kind: mesh.MatchSuffix, Value: strings.TrimPrefix(p, "*")}
	default:
		return mesh.StringMatch{Value: p}
	}
}

// principals joins what a source says of principals with what it says of trust domains, which are how principals begin.
func (t *ruleTranslator) principals(s world.PolicySource, at string) (are, areNot []mesh.StringMatch) {
	are, areNot = t.identities(s.Principals, at+".principals"), t.identities(s.NotPrincipals, at+".notPrincipals")
	no, _ := t.domains(s.NotTrustDomains, at+".notTrustDomains")
	areNot = append(areNot, no...)
	domains, all := t.domains(s.TrustDomains, at+".trustDomains")
	switch {
	case !all || len(domains) == 0: // an alternative less would be a DENY that denies less: so it goes without all of them
		return are, areNot
	case len(s.Principals) == 0:
		return domains, areNot
	}
	// Both must hold at once, and a match can only say that one of a list does: it says what they have in common.
	var common []mesh.StringMatch
	for _, p := range are {
		for _, d := range domains {
			both, ok := bothHold(p, d)
			if !ok {
				t.lose(fmt.Sprintf("%s.trustDomains, together with principals \"*%s\", cannot be decided below L7", at, p.Value))
				both = &p
			}
			if both != nil && !slices.Contains(common, *both) {
				common = append(common, *both)
			}
		}
	}
	if len(common) == 0 {
		common = []mesh.StringMatch{{Value: nobody}}
	}
	return common, areNot
}

// nobody is a principal that no identity is.
const nobody = "-"

// domains are patterns of principals of some trust domains; false if one could not be kept.
func (t *ruleTranslator) domains(patterns []string, what string) (out []mesh.StringMatch, all bool) {
	all = true
	for _, m := range t.texts(patterns, what) {
		switch {
		case strings.Contains(m.Value, "/"):
			t.lose(fmt.Sprintf("%s: %q is no trust domain", what, m.Value))
		case m.Kind == mesh.MatchSuffix:
			t.lose(fmt.Sprintf("%s: \"*%s\": how a trust domain ends cannot be decided below L7", what, m.Value))
			all = false
		case m.Kind == mesh.MatchExact:
			out = append(out, t.underEachName(mesh.StringMatch{Kind: mesh.MatchPrefix, Value: m.Value + "/"})...)
		default: // neither "*" nor a prefix without a slash can reach beyond the trust domain
			out = append(out, m)
		}
	}
	return out, all
}

// bothHold gives the pattern that holds when a principal fits p and begins like d; nil: none can. It is false if no pattern can say it.
func bothHold(p, d mesh.StringMatch) (*mesh.StringMatch, bool) {
	if d.Kind == mesh.MatchPresence {
		return &p, true
	}
	switch p.Kind {
	case mesh.MatchPresence:
		return &d, true
	case mesh.MatchExact:
		if strings.HasPrefix(p.Value, d.Value) {
			return &p, true
		}
		return nil, true
	case mesh.MatchPrefix:
		switch { // the longer one says more
		case strings.HasPrefix(p.Value, d.Value):
			return &p, true
		case strings.HasPrefix(d.Value, p.Value):
			return &d, true
		}
		return nil, true
	default:
		return nil, false
	}
}

// accounts reads "<namespace>/<service account>" or, in the policy's own namespace, "<service account>".
func (t *ruleTranslator) accounts(in []string, what string) []mesh.ServiceAccountMatch {
	var out []mesh.ServiceAccountMatch
	for _, s := range in {
		namespace, account, ok := strings.Cut(s, "/")
		if !ok {
			namespace, account = t.namespace, s
		}
		if len(namespace) > longestName || len(account) > longestName {
			t.lose(fmt.Sprintf("%s: a value of %d bytes is longer than any service account", what, len(s)))
			continue
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
