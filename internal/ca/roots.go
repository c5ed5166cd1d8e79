// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"fmt"
	"time"
)

// ReadRoots reads certificates in PEM that peers shall trust. It is an error if one of them is not that of an authority, or has ended.
func ReadRoots(pem []byte, now time.Time) ([]*x509.Certificate, error) {
	roots, err := parseCertificates(pem)
	if err != nil {
		return nil, err
	}
	for _, root := range roots {
		if !root.BasicConstraintsValid || !root.IsCA {
			return nil, fmt.Errorf("certificate of %q may not sign others", root.Subject)
		}
		if !now.Before(root.NotAfter) {
			return nil, fmt.Errorf("certificate of %q ended at %s", root.Subject, root.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return roots, nil
}

// RootsDER is every root that peers shall trust, in DER.
func (s *Signer) RootsDER() [][]byte {
	out := make([][]byte, 0, len(s.roots))
	for _, root := range s.roots {
		out = append(out, root.Raw)
	}
	return out
}
