// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Index is a list of policies, indexed: those in force, and, if any is in dry run, all together. It is immutable; a nil one holds no policy.
type Index struct {
	force sides
	all   *sides // nil if it is the same
	asks  bool
	later bool
}

// AsksRequests says whether any of the policies asks something of requests, so that a Caller without one is judged as bytes are.
func (x *Index) AsksRequests() bool { return x != nil && x.asks }

// Later gives an index of the same policies that leaves the requests inside a stream to somebody who sees them and judges by the same: of a caller without a
// Request, an ALLOW rule holds whatever it asks of requests, and a DENY rule that asks something does not.
func (x *Index) Later() *Index {
	out := *x
	out.later = true
	return &out
}

// sides are the policies of a list by what they do.
type sides struct{ deny, allow *ruleIndex }

// NewIndex indexes policies; the order decides which one a Verdict names when several match.
func NewIndex(policies []*mesh.Policy) *Index {
	split := func(dryToo bool) sides {
		pick := func(action mesh.PolicyAction) *ruleIndex {
			var out []*mesh.Policy
			for _, p := range policies {
				// Like Authorize, what is no DENY is an ALLOW.
				if (p.Action == mesh.Deny) == (action == mesh.Deny) && (dryToo || !p.DryRun) {
					out = append(out, p)
				}
			}
			return newRuleIndex(out)
		}
		return sides{deny: pick(mesh.Deny), allow: pick(mesh.Allow)}
	}
	x := &Index{force: split(false), asks: slices.ContainsFunc(policies, (*mesh.Policy).AsksRequests)}
	if slices.ContainsFunc(policies, func(p *mesh.Policy) bool { return p.DryRun }) {
		all := split(true)
		x.all = &all
	}
	return x
}

func (x *Index) isDry() bool { return x != nil && x.all != nil }

func (x *Index) of(dryToo bool) *sides {
	if dryToo && x.all != nil {
		return x.all
	}
	return &x.force
}

// Judge judges a caller by the policies of some indexes together, as Authorize would by one list of them all.
func Judge(in []*Index, c Caller) Verdict {
	s := subjectOf(c)
	var v Verdict
	v.Allowed, v.Policy = judged(in, &s, false)
	v.DryAllowed, v.DryPolicy = v.Allowed, v.Policy
	if slices.ContainsFunc(in, (*Index).isDry) {
		v.DryAllowed, v.DryPolicy = judged(in, &s, true)
	}
	return v
}

func judged(in []*Index, s *subject, dryToo bool) (allowed bool, by string) {
	allows := false
	s.deny, s.spent = true, 0
	for _, x := range in {
		if x == nil {
			continue
		}
		of := x.of(dryToo)
		s.later = x.later
		if p := of.deny.first(s); p != nil {
			return false, p.Key()
		}
		allows = allows || of.allow.policies > 0
	}
	if !allows {
		return true, ""
	}
	s.deny = false
	for _, x := range in {
		if x == nil {
			continue
		}
		s.later = x.later
		if p := x.of(dryToo).allow.first(s); p != nil {
			return true, p.Key()
		}
	}
	return false, ""
}
