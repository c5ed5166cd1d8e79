// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// trust is what the peers of one trust domain are verified with. It is immutable.
type trust struct {
	roots   *x509bundle.Bundle
	revoked *revocations // nil: nothing is
}

// domainBundle is the trust of one domain that an issuer gave, and the call that brought it, so that a slow answer does not undo a later one.
type domainBundle struct {
	trust *trust
	call  uint64
}

// SetBundle makes roots the bundle of a trust domain, our own or another, from the next handshake on; none takes the trust away. While it is set, what an
// issuer gives for the domain does not count: it comes with certificates, and so is older. lists say which certificates of the domain are revoked; the Source
// owns them from then on. Connections that are guarded end if their peers would not be believed any more.
func (s *Source) SetBundle(trustDomain string, roots []*x509.Certificate, lists []*x509.RevocationList) error {
	domain, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.trustOf(trustDomain)
	if len(roots) == 0 {
		delete(s.told, trustDomain)
		delete(s.bundles, trustDomain)
	} else {
		s.told[trustDomain] = &trust{roots: x509bundle.FromX509Authorities(domain, roots), revoked: newRevocations(lists)}
	}
	s.changed(trustDomain, before)
	return nil
}

// Follow sets bundles as they are told, and takes back those that are nil: nobody of another domain is believed then, and of our own whom the roots vouch for
// that came with certificates. What cannot be read changes nothing for its domain, and is in the error.
func (s *Source) Follow(bundles map[string]*mesh.Bundle) error {
	var failed []error
	for domain, b := range bundles {
		if b == nil {
			s.setAlias(domain, "")
			s.takeBack(domain)
			continue
		}
		roots, lists, err := readBundle(b)
		if err != nil {
			failed = append(failed, fmt.Errorf("bundle of %q: %w", domain, err))
			continue
		}
		if err := s.SetBundle(domain, roots, lists); err != nil {
			failed = append(failed, err)
			continue
		}
		s.setAlias(domain, b.AliasOf)
	}
	return errors.Join(failed...)
}

// takeBack forgets what was told of a domain. What an issuer gave stays: it comes again with the next certificate only, hours later, and until then every
// handshake of our own domain would fail.
func (s *Source) takeBack(trustDomain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.trustOf(trustDomain)
	delete(s.told, trustDomain)
	s.changed(trustDomain, before)
}

func readBundle(b *mesh.Bundle) (roots []*x509.Certificate, lists []*x509.RevocationList, err error) {
	for _, der := range b.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		return nil, nil, errors.New("holds no root")
	}
	for _, der := range b.Revoked {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, nil, err
		}
		lists = append(lists, list)
	}
	return roots, lists, nil
}

// trustIn is that in a trust domain, or nil if it has no bundle and so is not trusted.
func (s *Source) trustIn(trustDomain string) *trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trustOf(trustDomain)
}

// trustOf is trustIn with mu held.
func (s *Source) trustOf(trustDomain string) *trust {
	if t := s.told[trustDomain]; t != nil {
		return t
	}
	return s.bundles[trustDomain].trust
}
