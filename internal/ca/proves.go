// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// trialLife is how long certificates last that are issued only to see whether they would be taken.
const trialLife = time.Minute

// Proves says why peers that hold the roots would not take what the signer issues for identities of a trust domain, or for a server of these names; nil: they would. Whoever made the issuing
// certificate, or one above it, may have allowed it no such names.
func (s *Signer) Proves(trustDomain string, dnsNames ...string) error {
	id := &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/ns/n/sa/s"}
	if err := s.try(x509.Certificate{URIs: []*url.URL{id}}); err != nil {
		return fmt.Errorf("identities of %s are not accepted: %w", trustDomain, err)
	}
	if err := s.try(x509.Certificate{DNSNames: dnsNames}); err != nil {
		return fmt.Errorf("the names of the control plane are not accepted: %w", err)
	}
	return nil
}

// choose takes the chain that lasts longest of those by which peers take what is issued: one that leads to a root may still allow no certificate below it, or none of that use.
func (s *Signer) choose(chains [][]*x509.Certificate) (err error) {
	slices.SortStableFunc(chains, func(a, b []*x509.Certificate) int { return endsFirst(b).NotAfter.Compare(endsFirst(a).NotAfter) })
	for _, chain := range chains {
		s.notAfter = endsFirst(chain).NotAfter
		s.chain = chain[:len(chain)-1] // peers hold the roots
		s.top = chain[len(chain)-1]
		if err = s.try(x509.Certificate{}); err == nil {
			return nil
		}
	}
	return err
}

// try issues a certificate and judges it as a peer would, be it at the client's end or at the server's.
func (s *Signer) try(template x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	uses := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	template.ExtKeyUsage = uses
	der, err := s.issue(&template, key.Public(), trialLife)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, c := range s.chain {
		intermediates.AddCert(c)
	}
	for _, use := range uses {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.Roots(), Intermediates: intermediates, CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return err
		}
	}
	return nil
}
