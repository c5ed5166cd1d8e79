// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// domainNames are our trust domain and its aliases; nil if it has none.
func (x *index) domainNames() []string {
	if len(x.config.TrustDomainAliases) == 0 {
		return nil
	}
	return append([]string{x.config.TrustDomain}, x.config.TrustDomainAliases...)
}

// identities reads patterns of principals. One that begins with a name of our trust domain is meant for all of its names: for who is allowed, and for who is
// denied.
func (t *ruleTranslator) identities(patterns []string, what string) []mesh.StringMatch {
	in := t.texts(patterns, what)
	if len(t.names) == 0 {
		return in
	}
	var out []mesh.StringMatch
	seen := set[mesh.StringMatch]{}
	for _, m := range in {
		for _, each := range t.underEachName(m) {
			if !seen.has(each) {
				seen.add(each)
				out = append(out, each)
			}
		}
	}
	return out
}

// underEachName gives a pattern that names our trust domain with each of its names, and any other as it is. What ends before the trust domain does, or begins
// after it, may fit them all already.
func (t *ruleTranslator) underEachName(m mesh.StringMatch) []mesh.StringMatch {
	domain, rest, whole := strings.Cut(m.Value, "/")
	if !whole || m.Kind != mesh.MatchExact && m.Kind != mesh.MatchPrefix || !slices.Contains(t.names, domain) {
		return []mesh.StringMatch{m}
	}
	out := make([]mesh.StringMatch, 0, len(t.names))
	for _, name := range t.names {
		if each := name + "/" + rest; len(each) <= mesh.MaxIdentity {
			out = append(out, mesh.StringMatch{Kind: m.Kind, Value: each})
		}
	}
	return out
}
