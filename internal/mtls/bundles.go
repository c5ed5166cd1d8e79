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

// domainBundle is the bundle of one trust domain that an issuer gave, and the call that brought it, so that a slow answer does not undo a later one.
type domainBundle struct {
	bundle *x509bundle.Bundle
	call   uint64
}

// SetBundle makes roots the bundle of a trust domain, our own or another, from the next handshake on; none takes the trust away. While it is set, what an
// issuer gives for the domain does not count: it comes with certificates, and so is older.
func (s *Source) SetBundle(trustDomain string, roots []*x509.Certificate) error {
	domain, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(roots) == 0 {
		delete(s.told, trustDomain)
		delete(s.bundles, trustDomain)
		return nil
	}
	s.told[trustDomain] = x509bundle.FromX509Authorities(domain, roots)
	return nil
}

// Follow sets bundles as they are told, and takes back those that are nil: nobody of another domain is believed then, and of our own whom the roots vouch for
// that came with certificates. What cannot be read changes nothing for its domain, and is in the error.
func (s *Source) Follow(bundles map[string]*mesh.Bundle) error {
	var failed []error
	for domain, b := range bundles {
		if b == nil {
			s.takeBack(domain)
			continue
		}
		roots, err := readRoots(b)
		if err != nil {
			failed = append(failed, fmt.Errorf("bundle of %q: %w", domain, err))
			continue
		}
		if err := s.SetBundle(domain, roots); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// takeBack forgets what was told of a domain. What an issuer gave stays: it comes again with the next certificate only, hours later, and until then every
// handshake of our own domain would fail.
func (s *Source) takeBack(trustDomain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.told, trustDomain)
}

func readRoots(b *mesh.Bundle) ([]*x509.Certificate, error) {
	roots := make([]*x509.Certificate, 0, len(b.Roots))
	for _, der := range b.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		return nil, errors.New("holds no root")
	}
	return roots, nil
}

// bundle is that of a trust domain, or nil if it has none and so is not trusted.
func (s *Source) bundle(trustDomain string) *x509bundle.Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.told[trustDomain]; b != nil {
		return b
	}
	return s.bundles[trustDomain].bundle
}
