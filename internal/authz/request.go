// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Request is what policies see of a request. Nothing of it is changed, or kept.
type Request struct {
	// Authority is the host that the client asked for, as it wrote it, with its port if it named one.
	Authority string
	Method    string
	// Path is that by which the request is routed, or with which it is sent on: escaped, and without a query.
	Path string
	// Header is what is sent on, with names in canonical form and values without white space around them.
	Header map[string][]string
}

// requestHolds says whether what is asked of a request is so.
//
// Those behind us may read the same bytes in several ways: they take two slashes for one, decode what is escaped, or look at the first of several headers.
// What keeps somebody out (what a DENY rule asks for, and the exception from an ALLOW rule) therefore counts if any reading fits, and what lets somebody in (what
// an ALLOW rule asks for, and the exception from a DENY rule) only if all of them do. What nobody can be sure of keeps out, and lets nobody in.
func (s *subject) requestHolds(m *mesh.RequestMatch) bool {
	if s.request == nil {
		return s.deny != s.later
	}
	wide := s.deny
	if len(m.Methods) > 0 && !s.methodFits(m.Methods, wide) || len(m.NotMethods) > 0 && s.methodFits(m.NotMethods, !wide) ||
		len(m.Hosts) > 0 && !s.hostFits(m.Hosts, wide) || len(m.NotHosts) > 0 && s.hostFits(m.NotHosts, !wide) ||
		len(m.Paths) > 0 && !s.pathFits(m.Paths, wide) || len(m.NotPaths) > 0 && s.pathFits(m.NotPaths, !wide) {
		return false
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		if len(h.Values) > 0 && !s.headerFits(h.Name, h.Values, wide) || len(h.NotValues) > 0 && s.headerFits(h.Name, h.NotValues, !wide) {
			return false
		}
	}
	return true
}

// work bounds what one judgement may cost, in comparisons of strings of ordinary length: a millisecond or two. A request that costs more counts as one that cannot be read.
const work = 1 << 16

// spend takes from what the judgement may cost; false: that is used up.
func (s *subject) spend(n int) bool {
	s.spent += n
	return s.spent <= work
}

// spendOn is spend for comparing a string with each of some patterns.
func (s *subject) spendOn(in []mesh.StringMatch, value string) bool {
	if s.spent > work {
		return false // not even to be counted
	}
	n := len(in)
	for i := range in {
		n += min(len(in[i].Value), len(value)) >> 6
	}
	return s.spend(n)
}

// methodFits compares the method. Some take it in any case of letters.
func (s *subject) methodFits(in []mesh.StringMatch, wide bool) bool {
	method := s.request.Method
	if !s.spendOn(in, method) {
		return wide
	}
	if !wide {
		return anyFits(in, method)
	}
	return slices.ContainsFunc(in, func(m mesh.StringMatch) bool { return fitsAnyCase(&m, method) })
}

// fitsAnyCase is fits for those who take small letters and capital ones for the same.
func fitsAnyCase(m *mesh.StringMatch, value string) bool {
	n := len(m.Value)
	switch {
	case len(value) < n || m.Kind == mesh.MatchExact && len(value) > n:
		return m.Kind == mesh.MatchPresence && value != ""
	case m.Kind == mesh.MatchExact || m.Kind == mesh.MatchPrefix:
		return value != "" && strings.EqualFold(value[:n], m.Value)
	case m.Kind == mesh.MatchSuffix:
		return value != "" && strings.EqualFold(value[len(value)-n:], m.Value)
	default:
		return fits(m, value)
	}
}
