// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

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
	return t.common(are, domains, at+".trustDomains"), areNot
}

// nobody is a principal that no identity is.
const nobody = "-"

// common are patterns of what fits one of some principals and is in one of some trust domains at once: a match can only say that one of a list does. What it costs is in
// proportion to how many there are of both, and so is the answer: each of them is in it once at most.
func (t *ruleTranslator) common(principals, domains []mesh.StringMatch, at string) []mesh.StringMatch {
	begin := newBeginnings(domains)
	var out []mesh.StringMatch
	seen := set[mesh.StringMatch]{}
	add := func(m mesh.StringMatch) {
		if !seen.has(m) {
			seen.add(m)
			out = append(out, m)
		}
	}
	for _, p := range principals {
		switch {
		case begin.any || p.Kind != mesh.MatchPresence && p.Kind != mesh.MatchSuffix && begin.of(p.Value):
			add(p)
		case p.Kind == mesh.MatchPresence:
			for _, d := range domains {
				add(d)
			}
		case p.Kind == mesh.MatchPrefix: // the longer one of two beginnings says more
			for _, d := range begin.within(p.Value) {
				add(mesh.StringMatch{Kind: mesh.MatchPrefix, Value: d})
			}
		case p.Kind == mesh.MatchSuffix:
			if len(t.notes) < maxNotes {
				t.lose(fmt.Sprintf("%s, together with principals \"*%s\", cannot be decided below L7", at, p.Value))
			}
			add(p)
		}
	}
	if len(out) == 0 {
		out = []mesh.StringMatch{{Value: nobody}}
	}
	return out
}

// beginnings are how the principals of some trust domains begin.
type beginnings struct {
	any     bool // one of the domains is whichever
	sorted  []string
	all     set[string]
	lengths []int // of them, each once
}

func newBeginnings(domains []mesh.StringMatch) *beginnings {
	b := &beginnings{all: set[string]{}}
	for _, d := range domains {
		if d.Kind == mesh.MatchPresence {
			b.any = true
			continue
		}
		b.all.add(d.Value)
		b.sorted, b.lengths = append(b.sorted, d.Value), append(b.lengths, len(d.Value))
	}
	slices.Sort(b.sorted)
	slices.Sort(b.lengths)
	b.sorted, b.lengths = slices.Compact(b.sorted), slices.Compact(b.lengths)
	return b
}

// of says whether s begins like one of them.
func (b *beginnings) of(s string) bool {
	for _, n := range b.lengths {
		if n > len(s) {
			return false
		}
		if b.all.has(s[:n]) {
			return true
		}
	}
	return false
}

// within are those that begin like s.
func (b *beginnings) within(s string) []string {
	from, _ := slices.BinarySearch(b.sorted, s)
	to := from
	for to < len(b.sorted) && strings.HasPrefix(b.sorted[to], s) {
		to++
	}
	return b.sorted[from:to]
}

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
		case m.Kind == mesh.MatchExact && len(m.Value) == mesh.MaxIdentity:
			t.lose(fmt.Sprintf("%s: a value of %d bytes is longer than any trust domain", what, len(m.Value)))
			all = false
		case m.Kind == mesh.MatchExact:
			out = append(out, t.underEachName(mesh.StringMatch{Kind: mesh.MatchPrefix, Value: m.Value + "/"})...)
		default: // neither "*" nor a prefix without a slash can reach beyond the trust domain
			out = append(out, m)
		}
	}
	return out, all
}
