// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// maxVerifiedRSABits is the longest RSA key that ring verifies with.
const maxVerifiedRSABits = 8192

// Doubts says which certificates, of those by which peers take what is issued, not every peer can make use of; nil: there are none. Our proxies verify what Go does. A ztunnel verifies what the TLS library does that it was built
// with, and the least of those, ring, knows P-256 and P-384 with SHA-256 and SHA-384, RSA keys of a middle length, and Ed25519.
func (s *Signer) Doubts() error {
	var doubts []error
	var seen []*x509.Certificate
	for _, c := range slices.Concat(s.way, s.chain) {
		if slices.ContainsFunc(seen, c.Equal) {
			continue
		}
		seen = append(seen, c)
		if why := doubtfulKey(c.PublicKey); why != "" {
			doubts = append(doubts, fmt.Errorf("%q has %s", c.Subject, why))
		}
		if c.SignatureAlgorithm == x509.ECDSAWithSHA512 && !c.Equal(s.Top()) { // nobody verifies what a root says of itself
			doubts = append(doubts, fmt.Errorf("%q is signed by ECDSA with SHA-512", c.Subject))
		}
	}
	return errors.Join(doubts...)
}

// doubtfulKey is what is rare of a key, or empty.
func doubtfulKey(key any) string {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if size := key.Params().BitSize; size != 256 && size != 384 {
			return fmt.Sprintf("an elliptic curve key of %d bits", size)
		}
	case *rsa.PublicKey:
		if size := key.N.BitLen(); size < minRSABits || size > maxVerifiedRSABits {
			return fmt.Sprintf("an RSA key of %d bits", size)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Sprintf("a key of type %T", key)
	}
	return ""
}
