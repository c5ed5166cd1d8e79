// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrEnded is why no root is read of certificates that are well-formed and have all ended.
var ErrEnded = errors.New("certificates ended")

// ReadRoots reads certificates in PEM that peers shall trust. Those that have ended are left out, for they stay beside their followers when a root was
// rotated; it is an error if no other is there (ErrEnded), or if one is not that of an authority.
func ReadRoots(pem []byte, now time.Time) ([]*x509.Certificate, error) {
	all, err := parseCertificates(pem)
	if err != nil {
		return nil, err
	}
	var roots []*x509.Certificate
	for _, root := range all {
		if !root.BasicConstraintsValid || !root.IsCA {
			return nil, fmt.Errorf("certificate of %q may not sign others", root.Subject)
		}
		if now.Before(root.NotAfter) {
			roots = append(roots, root)
		}
	}
	if len(roots) == 0 {
		last := slices.MaxFunc(all, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		return nil, fmt.Errorf("%w, the last, of %q, at %s", ErrEnded, last.Subject, last.NotAfter.UTC().Format(time.RFC3339))
	}
	return roots, nil
}

// Top is the root that vouches for what is issued now, as it is shown to peers.
func (s *Signer) Top() *x509.Certificate { return s.way[len(s.way)-1] }

// Trusts says whether a root is among those that peers shall trust.
func (s *Signer) Trusts(root *x509.Certificate) bool { return slices.ContainsFunc(s.roots, root.Equal) }

// Keeping is the signer with further roots that peers shall trust, after its own ones.
func (s *Signer) Keeping(roots []*x509.Certificate) *Signer {
	with := *s
	with.roots = slices.Clone(s.roots)
	for _, root := range roots {
		if !with.Trusts(root) {
			with.roots = append(with.roots, root)
			with.here = append(slices.Clone(with.here), root)
			with.rootPEM += encodeCertificate(root.Raw)
		}
	}
	return &with
}

// RootsDER is every root that peers shall trust, in DER.
func (s *Signer) RootsDER() [][]byte {
	out := make([][]byte, 0, len(s.roots))
	for _, root := range s.roots {
		out = append(out, root.Raw)
	}
	return out
}
