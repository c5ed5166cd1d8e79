// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

// RevokedKey is where a Secret of the authority, or a ConfigMap with the roots of another trust domain, may hold revocation lists in PEM. The name is the usual one.
const RevokedKey = "ca-crl.pem"

const (
	// maxLists is how many revocation lists one file may hold.
	maxLists = 64
	// maxListsBytes is how long the file may be: what a Secret holds.
	maxListsBytes = 1 << 20
)

// ReadRevocations reads revocation lists in PEM, and nothing else. Each must be signed by one of by; without any, it is not known here who signs, and signatures
// are left to who uses the lists.
func ReadRevocations(data []byte, by []*x509.Certificate) ([]*x509.RevocationList, error) {
	if len(data) > maxListsBytes {
		return nil, fmt.Errorf("has %d bytes, at most %d are accepted", len(data), maxListsBytes)
	}
	return readBlocks(data, "X509 CRL", maxLists, func(der []byte) (*x509.RevocationList, error) {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		return list, signedBy(list, by)
	})
}

// signedBy gives an error if none of the certificates, if there are any, signed the list.
func signedBy(list *x509.RevocationList, by []*x509.Certificate) error {
	if len(by) == 0 {
		return nil
	}
	var failed error
	for _, c := range by {
		err := list.CheckSignatureFrom(c)
		if err == nil {
			return nil
		}
		if bytes.Equal(c.RawSubject, list.RawIssuer) { // of the others nobody expects it
			failed = err
		}
	}
	if failed == nil {
		failed = errors.New("no certificate here has that name")
	}
	return fmt.Errorf("the list of %q is not signed by this authority: %w", list.Issuer, failed)
}

// readRevocations reads the lists that come with an authority, which must not have revoked itself.
func (s *Signer) readRevocations(data []byte) error {
	up := append([]*x509.Certificate{s.cert}, s.chain...)
	lists, err := ReadRevocations(data, append(up, s.roots...))
	if err != nil {
		return err
	}
	for _, list := range lists {
		s.revoked = append(s.revoked, list.Raw)
		for _, e := range list.RevokedCertificateEntries {
			for _, c := range up {
				if bytes.Equal(c.RawIssuer, list.RawIssuer) && c.SerialNumber.Cmp(e.SerialNumber) == 0 {
					return fmt.Errorf("revokes the issuing certificate %x of %q, or one above it", c.SerialNumber, c.Subject)
				}
			}
		}
	}
	return nil
}

// RevokedDER is every revocation list that came with the authority, in DER.
func (s *Signer) RevokedDER() [][]byte { return s.revoked }
