// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"
)

// revocations are the lists of one trust domain, ready to be asked. A certificate of which no list of its issuer says anything is not revoked: lists are brought
// by operators, so to demand one for each issuer would end all trust wherever none is kept. A list whose time for the next one has passed
// still counts: what was revoked does not come back.
type revocations struct {
	byIssuer map[string][]revocationList // by the issuer's name, as encoded
}

type revocationList struct {
	list *x509.RevocationList
	when map[string]time.Time // of revocation, by serial number, in big-endian bytes
}

// newRevocations gives nil for no list.
func newRevocations(lists []*x509.RevocationList) *revocations {
	if len(lists) == 0 {
		return nil
	}
	r := &revocations{byIssuer: map[string][]revocationList{}}
	for _, list := range lists {
		l := revocationList{list: list, when: make(map[string]time.Time, len(list.RevokedCertificateEntries))}
		for _, e := range list.RevokedCertificateEntries {
			l.when[string(e.SerialNumber.Bytes())] = e.RevocationTime
		}
		r.byIssuer[string(list.RawIssuer)] = append(r.byIssuer[string(list.RawIssuer)], l)
	}
	return r
}

// check gives an error if a certificate of the chain, leaf first, was revoked by the one above it. A root is above itself.
func (r *revocations) check(chain []*x509.Certificate) error {
	if r == nil {
		return nil
	}
	for i, cert := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		for _, l := range r.byIssuer[string(cert.RawIssuer)] {
			when, ok := l.when[string(cert.SerialNumber.Bytes())]
			// The name is not proof: an authority may have two keys under one name, and its list is told by anybody's word until the signature was seen. The key is: whether that certificate may sign lists is not asked, for
			// another one of the same name and key may, and whom it revoked must not be believed by this one.
			if ok && issuer.CheckSignature(l.list.SignatureAlgorithm, l.list.RawTBSRevocationList, l.list.Signature) == nil {
				return fmt.Errorf("certificate %x of %q was revoked by %q at %s", cert.SerialNumber, cert.Subject, cert.Issuer, when.UTC().Format(time.RFC3339))
			}
		}
	}
	return nil
}

// holds says whether everything that other lists say is in these.
func (r *revocations) holds(other *revocations) bool {
	if other == nil {
		return true
	}
	if r == nil {
		return false
	}
	for issuer, lists := range other.byIssuer {
		for _, l := range lists {
			if !containsList(r.byIssuer[issuer], l.list.Raw) {
				return false
			}
		}
	}
	return true
}

func containsList(lists []revocationList, raw []byte) bool {
	for _, l := range lists {
		if bytes.Equal(l.list.Raw, raw) {
			return true
		}
	}
	return false
}
