// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ruleIndex finds the first policy of a list that matches a caller, without looking at those that cannot. It is immutable once built.
//
// A rule holds only if all of its clauses do, so each is filed under one clause, the most telling: under every value that a caller must
// have one of for that clause to hold. A rule that only says who is not meant is filed under anyone.
type ruleIndex struct {
	policies int // also those that never match
	rules    []filedRule

	anyone, proved         []int32 // proved: any identity
	principals, namespaces texts
	accounts               map[mesh.ServiceAccountMatch][]int32
	sources, destinations  ranges
	ports                  map[uint16][]int32
	paths                  texts
	byPaths                []int32 // all that are filed under paths, for callers of whom no path is known
}

// filedRule is one rule; its place in the list is the order of its policy.
type filedRule struct {
	policy *mesh.Policy
	rule   *mesh.PolicyRule
}

// How telling a kind of field is: the fewer callers have one value of it, the smaller.
const (
	tellsIdentity = iota
	tellsNamespace
	tellsRange
	tellsAffix
	tellsPath
	tellsPort
	tellsPresence
	tellsNothing
)

func newRuleIndex(policies []*mesh.Policy) *ruleIndex {
	x := &ruleIndex{policies: len(policies), accounts: map[mesh.ServiceAccountMatch][]int32{}, ports: map[uint16][]int32{}}
	for _, p := range policies {
		for i := range p.Rules {
			x.file(p, &p.Rules[i])
		}
	}
	return x
}

func (x *ruleIndex) file(p *mesh.Policy, r *mesh.PolicyRule) {
	var best []mesh.PolicyMatch
	tells := tellsNothing
	for _, clause := range r.Clauses {
		worst, possible := tellsIdentity, len(clause.Matches) == 0
		for i := range clause.Matches {
			if m := &clause.Matches[i]; !m.IsEmpty() {
				_, rank := mostTelling(m)
				worst, possible = max(worst, rank), true
			}
		}
		if !possible {
			return // the clause never holds, nor does the rule
		}
		if len(clause.Matches) > 0 && worst < tells {
			best, tells = clause.Matches, worst
		}
	}
	at := int32(len(x.rules))
	x.rules = append(x.rules, filedRule{p, r})
	if tells == tellsNothing {
		x.anyone = append(x.anyone, at)
		return
	}
	for i := range best {
		if m := &best[i]; !m.IsEmpty() {
			field, _ := mostTelling(m)
			x.fileUnder(m, field, at)
		}
	}
}

// field is a kind of field by which a match can be filed.
type field uint8

const (
	byNothing field = iota
	byPrincipal
	byNamespace
	byAccount
	bySource
	byDestination
	byPort
	byPath
)

// mostTelling is the field of a match that fewest callers satisfy.
func mostTelling(m *mesh.PolicyMatch) (field, int) {
	best, tells := byNothing, tellsNothing
	consider := func(f field, n, rank int) {
		if n > 0 && rank < tells {
			best, tells = f, rank
		}
	}
	consider(byPrincipal, len(m.Principals), textsTell(m.Principals, tellsIdentity))
	consider(byAccount, len(m.ServiceAccounts), tellsIdentity)
	consider(byNamespace, len(m.Namespaces), textsTell(m.Namespaces, tellsNamespace))
	consider(bySource, len(m.SourceIPs), tellsRange)
	consider(byDestination, len(m.DestinationIPs), tellsPort) // few pods have many addresses
	consider(byPort, len(m.DestinationPorts), tellsPort)
	if m.Request != nil && textsTell(m.Request.Paths, tellsPath) == tellsPath { // any path tells nothing
		consider(byPath, len(m.Request.Paths), tellsPath)
	}
	return best, tells
}

// textsTell is the rank of the least telling of some strings; exact is that of an exact one.
func textsTell(in []mesh.StringMatch, exact int) int {
	worst := exact
	for _, s := range in {
		switch s.Kind {
		case mesh.MatchPrefix, mesh.MatchSuffix:
			worst = max(worst, tellsAffix)
		case mesh.MatchPresence:
			worst = max(worst, tellsPresence)
		}
	}
	return worst
}

func (x *ruleIndex) fileUnder(m *mesh.PolicyMatch, f field, at int32) {
	switch f {
	case byPrincipal:
		x.proved = x.principals.file(m.Principals, at, x.proved)
	case byNamespace:
		x.proved = x.namespaces.file(m.Namespaces, at, x.proved)
	case byAccount:
		for _, a := range m.ServiceAccounts {
			x.accounts[a] = appendOnce(x.accounts[a], at)
		}
	case bySource:
		x.sources.file(m.SourceIPs, at)
	case byDestination:
		x.destinations.file(m.DestinationIPs, at)
	case byPort:
		for _, p := range m.DestinationPorts {
			x.ports[p] = appendOnce(x.ports[p], at)
		}
	case byPath:
		x.byPaths = appendOnce(x.byPaths, at)
		x.paths.file(pathForms(m.Request.Paths), at, nil)
	}
}

// pathForms are patterns of paths with all that they are read as. A template is filed under how it begins.
func pathForms(in []mesh.StringMatch) []mesh.StringMatch {
	var out []mesh.StringMatch
	for _, m := range in {
		if m.Kind == mesh.MatchTemplate {
			literal, _, _ := strings.Cut(m.Value, "{")
			m = mesh.StringMatch{Kind: mesh.MatchPrefix, Value: literal}
		}
		for range decodings + 1 {
			out = append(out, m)
			m.Value = decode(m.Value)
		}
	}
	return out
}

// first is the first policy that matches, or nil. It does not allocate.
func (x *ruleIndex) first(s *subject) *mesh.Policy {
	if len(x.rules) == 0 {
		return nil
	}
	f := finder{rules: x.rules, subject: s, best: int32(len(x.rules))}
	f.look(x.anyone)
	if !s.peer.IsZero() {
		f.look(x.proved)
		f.look(x.accounts[s.account])
		x.principals.look(&f, s.principal)
		x.namespaces.look(&f, s.peer.Namespace)
	}
	f.look(x.ports[s.port])
	x.sources.look(&f, s.source)
	x.destinations.look(&f, s.dest)
	if len(x.byPaths) > 0 {
		x.lookAtPaths(&f)
	}
	if int(f.best) == len(x.rules) {
		return nil
	}
	return x.rules[f.best].policy
}

// lookAtPaths looks under everything that the path is read as.
func (x *ruleIndex) lookAtPaths(f *finder) {
	s := f.subject
	if s.request == nil || s.readings().odd || !s.spend((1+len(x.paths.prefixes.lengths)+len(x.paths.suffixes.lengths))*(1+len(s.paths.more)+len(s.paths.bared))) {
		f.look(x.byPaths)
		return
	}
	x.paths.look(f, s.request.Path)
	for i := range s.paths.more {
		x.paths.look(f, s.paths.more[i].path)
	}
	for _, p := range s.paths.bared {
		x.paths.look(f, p)
	}
}

// finder keeps the first rule that was found to hold.
type finder struct {
	rules   []filedRule
	subject *subject
	best    int32
}

// look tries a list, which is in order.
func (f *finder) look(list []int32) {
	for _, at := range list {
		if at >= f.best {
			return
		}
		if ruleHolds(f.rules[at].rule, f.subject) {
			f.best = at
			return
		}
	}
}

// texts files rules under strings, and under the ends that strings may have.
type texts struct {
	exact    map[string][]int32
	prefixes affixes
	suffixes affixes
}

// affixes are prefixes or suffixes, and the lengths that they have.
type affixes struct {
	lengths []int
	at      map[string][]int32
}

// file gives proved with what fits any string added.
func (t *texts) file(in []mesh.StringMatch, at int32, proved []int32) []int32 {
	for _, s := range in {
		switch s.Kind {
		case mesh.MatchExact:
			if t.exact == nil {
				t.exact = map[string][]int32{}
			}
			t.exact[s.Value] = appendOnce(t.exact[s.Value], at)
		case mesh.MatchPrefix:
			t.prefixes.file(s.Value, at)
		case mesh.MatchSuffix:
			t.suffixes.file(s.Value, at)
		case mesh.MatchPresence:
			proved = appendOnce(proved, at)
		}
	}
	return proved
}

func (t *texts) look(f *finder, value string) {
	f.look(t.exact[value])
	for _, n := range t.prefixes.lengths {
		if n <= len(value) {
			f.look(t.prefixes.at[value[:n]])
		}
	}
	for _, n := range t.suffixes.lengths {
		if n <= len(value) {
			f.look(t.suffixes.at[value[len(value)-n:]])
		}
	}
}

func (a *affixes) file(text string, at int32) {
	if a.at == nil {
		a.at = map[string][]int32{}
	}
	a.at[text] = appendOnce(a.at[text], at)
	if !slices.Contains(a.lengths, len(text)) {
		a.lengths = append(a.lengths, len(text))
	}
}

// ranges files rules under CIDRs, and remembers the lengths that they have.
type ranges struct {
	lengths4, lengths6 []int
	at                 map[netip.Prefix][]int32
}

func (r *ranges) file(in []netip.Prefix, at int32) {
	if r.at == nil {
		r.at = map[netip.Prefix][]int32{}
	}
	for _, p := range in {
		p = p.Masked()
		r.at[p] = appendOnce(r.at[p], at)
		lengths := &r.lengths6
		if p.Addr().Is4() {
			lengths = &r.lengths4
		}
		if !slices.Contains(*lengths, p.Bits()) {
			*lengths = append(*lengths, p.Bits())
		}
	}
}

func (r *ranges) look(f *finder, addr netip.Addr) {
	lengths := r.lengths6
	if addr.Is4() {
		lengths = r.lengths4
	}
	for _, n := range lengths {
		if p, err := addr.Prefix(n); err == nil {
			f.look(r.at[p])
		}
	}
}

// appendOnce adds at, which is not smaller than what the list holds.
func appendOnce(list []int32, at int32) []int32 {
	if n := len(list); n > 0 && list[n-1] == at {
		return list
	}
	return append(list, at)
}
