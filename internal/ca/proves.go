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

// maxSent is how many certificates follow a leaf: our proxies take a chain of 16, with leaf and roots.
const maxSent = 14

// choose takes the chain that lasts longest of those by which peers take what is issued: one that leads to a root may still allow no certificate below it, or none of that use. It bounds what is issued.
//
// What leads to each other root is sent along. While one root takes over from another, and one of them has signed the other, many peers hold only one of the two: what they need is not theirs to
// find, and the others find a shorter way by themselves.
func (s *Signer) choose(chains [][]*x509.Certificate) error {
	slices.SortStableFunc(chains, func(a, b []*x509.Certificate) int { return endsFirst(b).NotAfter.Compare(endsFirst(a).NotAfter) })
	var failed error
	reached := map[string]bool{} // roots
	for _, way := range chains {
		root := way[len(way)-1]
		if reached[string(root.Raw)] {
			continue
		}
		if err := s.leads(way); err != nil {
			failed = err
			continue
		}
		reached[string(root.Raw)] = true
		if s.way == nil {
			s.way, s.notAfter = way, endsFirst(way).NotAfter
		}
		chain := s.chain
		for _, c := range way[:len(way)-1] {
			if !slices.ContainsFunc(chain, c.Equal) {
				chain = append(slices.Clone(chain), c)
			}
		}
		if len(chain) <= maxSent {
			s.chain = chain
		}
	}
	if s.way == nil {
		return failed
	}
	return nil
}

// leads says why peers that hold only the root of a way would not take what is issued.
func (s *Signer) leads(way []*x509.Certificate) error {
	one := Signer{cert: s.cert, key: s.key, now: s.now, notAfter: endsFirst(way).NotAfter, chain: way[:len(way)-1], roots: way[len(way)-1:]}
	if len(one.chain) > maxSent {
		return fmt.Errorf("%d certificates lead to the root %q, and proxies take %d", len(one.chain), one.roots[0].Subject, maxSent)
	}
	return one.try(x509.Certificate{})
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
