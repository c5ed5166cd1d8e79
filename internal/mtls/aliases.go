// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// setAlias notes that a trust domain is another name of of; "": that it is not, or not any more. Guarded connections to peers of a domain that loses its other name end: who
// wanted them may not have wanted them under their own.
func (s *Source) setAlias(trustDomain, of string) {
	if of == trustDomain {
		of = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.aliases[trustDomain]
	if of == "" {
		delete(s.aliases, trustDomain)
	} else {
		s.aliases[trustDomain] = of
	}
	if before == "" || before == of || s.closed {
		return
	}
	why := &VerifyError{Reason: ReasonUnwanted, Err: fmt.Errorf("trust domain %s is no other name of %s any more", trustDomain, before)}
	for g := range s.guards.set {
		if g.peer.TrustDomain == trustDomain && !g.ended() {
			s.wait.Go(func() { _ = g.conn.CloseFor(why) }) // says nothing
		}
	}
}

// Canonical gives the trust domain that a domain is another name of, or the domain itself. Aliases have no aliases.
func (s *Source) Canonical(trustDomain string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.canonical(trustDomain)
}

// canonical is Canonical for who holds mu.
func (s *Source) canonical(trustDomain string) string {
	if of := s.aliases[trustDomain]; of != "" {
		return of
	}
	return trustDomain
}

// Expected says whether a peer is one of those that are wanted, under whichever name of its trust domain.
func (s *Source) Expected(want []mesh.Identity, peer mesh.Identity) bool {
	if slices.Contains(want, peer) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expected(want, peer)
}

// expected is Expected for who holds mu.
func (s *Source) expected(want []mesh.Identity, peer mesh.Identity) bool {
	domain := s.canonical(peer.TrustDomain)
	return slices.ContainsFunc(want, func(w mesh.Identity) bool {
		return w.Namespace == peer.Namespace && w.ServiceAccount == peer.ServiceAccount && s.canonical(w.TrustDomain) == domain
	})
}
