// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// texts reads Istio's patterns: "*", "prefix*", "*suffix", or the string itself.
func (t *ruleTranslator) texts(patterns []string, what string) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, p := range patterns {
		if len(p) > mesh.MaxIdentity {
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

// accounts reads "<namespace>/<service account>" or, in the policy's own namespace, "<service account>".
func (t *ruleTranslator) accounts(in []string, what string) []mesh.ServiceAccountMatch {
	var out []mesh.ServiceAccountMatch
	for _, s := range in {
		namespace, account, ok := strings.Cut(s, "/")
		if !ok {
			namespace, account = t.namespace, s
		}
		if len(namespace) > mesh.MaxName || len(account) > mesh.MaxName {
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
		switch {
		case err != nil:
			t.lose(fmt.Sprintf("%s: %.100q is no IP address or CIDR", what, s))
		case p.Addr().Is4In6() && p.Bits() < 96: // all of IPv4, and what is beside it
			out = append(out, netip.PrefixFrom(netip.IPv4Unspecified(), 0), p.Masked())
		case p.Addr().Is4In6(): // an IPv4 address in IPv6 form is taken for what it is
			out = append(out, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96))
		default:
			out = append(out, p)
		}
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
