// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// letting is which of the ListenerSets for one Gateway are let in, and what is said of the others. It is remembered until one of these sets, the Gateway, or the labels of a namespace of theirs are
// others: anybody may have thousands of them for anybody's Gateway.
type letting struct {
	in     []*world.ListenerSet // those that count first in a conflict first
	beyond []*world.ListenerSet // that would be, and are beyond maxSetListeners
	out    []*world.ListenerSet
	said   map[world.ObjectRef][]Finding // nil: not yet
}

// setsOf are the sets for a Gateway.
func (x *index) setsOf(g *world.Gateway) *letting {
	if l := x.lettings[g.Key]; l != nil {
		return l
	}
	l := &letting{}
	for k := range x.setsFor[g.Key] {
		s := x.state.ListenerSets[k]
		if g.SetsFrom != "" && x.lets(g.SetsFrom, g.SetNamespaces, g.Key, s.Namespace) {
			l.in = append(l.in, s)
		} else {
			l.out = append(l.out, s)
		}
	}
	slices.SortFunc(l.in, func(a, b *world.ListenerSet) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), comparePaths(a.Namespace, a.Name, b.Namespace, b.Name))
	})
	l.in, l.beyond = boundSets(l.in)
	x.lettings[g.Key] = l
	return l
}

// tell says of those that are not looked at why.
func (l *letting) tell(g *world.Gateway, findings map[world.ObjectRef][]Finding) {
	if l.said == nil {
		l.said = make(map[world.ObjectRef][]Finding, len(l.out)+len(l.beyond))
		for _, s := range l.out {
			message := fmt.Sprintf("Gateway %s/%s lets in no ListenerSet of namespace %s: see its allowedListeners", g.Namespace, g.Name, s.Namespace)
			l.say(s, isFalse, string(gatewayv1.ListenerSetReasonNotAllowed), message)
		}
		for _, s := range l.beyond {
			l.say(s, isFalse, string(tooManyListeners), beyondSets(g, s.Namespace))
		}
	}
	l.repeat(findings)
}

// say has a set neither accepted nor programmed.
func (l *letting) say(s *world.ListenerSet, status, reason, message string) {
	l.said[s.Ref()] = []Finding{setFinding(s, accepted, status, reason, message), setFinding(s, programmed, status, reason, message)}
}

func (l *letting) repeat(findings map[world.ObjectRef][]Finding) {
	for ref, said := range l.said {
		findings[ref] = said
	}
}

// orphans says of sets whose Gateway is not there, or goes, that they wait for one.
func (x *index) orphans(findings map[world.ObjectRef][]Finding) {
	for k, sets := range x.setsFor {
		g := x.state.Gateways[k]
		if k == (world.Key{}) || g != nil && (!g.Deleting || !x.governs(g)) {
			continue
		}
		l := x.lettings[k]
		if l == nil {
			l = &letting{said: make(map[world.ObjectRef][]Finding, len(sets))}
			x.lettings[k] = l
			message := fmt.Sprintf("spec.parentRef: there is no Gateway %s/%s", k.Namespace, k.Name)
			if g != nil {
				message = fmt.Sprintf("spec.parentRef: Gateway %s/%s is being deleted, and is not served any more", k.Namespace, k.Name)
			}
			for of := range sets {
				l.say(x.state.ListenerSets[of], isUnknown, string(gatewayv1.ListenerSetReasonPending), message)
			}
		}
		l.repeat(findings)
	}
}
