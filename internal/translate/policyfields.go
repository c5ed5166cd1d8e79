// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
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
