// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"
)

// ServerCertificate issues a certificate, with a new key, that proves the DNS names to TLS clients. It is what the
// control plane serves with.
func (s *Signer) ServerCertificate(dnsNames []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := s.issue(&x509.Certificate{
		DNSNames:    dnsNames,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public(), DefaultLifetime)
	if err != nil {
		return nil, fmt.Errorf("sign for %v: %w", dnsNames, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	for _, c := range s.chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// ServerConfig is a TLS configuration that proves the DNS names. Its certificate is issued at the first handshake, and
// anew when half of its life is over or signer gives another Signer. Clients are not asked for certificates.
func ServerConfig(signer func() *Signer, dnsNames ...string) *tls.Config {
	c := &serving{signer: signer, dnsNames: dnsNames}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get() },
	}
}

// serving keeps one certificate fresh.
type serving struct {
	signer   func() *Signer
	dnsNames []string

	mu   sync.Mutex // also held while signing, which takes well below a millisecond
	cert *tls.Certificate
	by   *Signer
}

func (c *serving) get() (*tls.Certificate, error) {
	signer := c.signer()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := signer.now()
	if c.by == signer && now.Before(half(c.cert.Leaf)) {
		return c.cert, nil
	}
	cert, err := signer.ServerCertificate(c.dnsNames)
	if err != nil {
		if c.cert != nil && now.Before(c.cert.Leaf.NotAfter) {
			return c.cert, nil // still good; the error comes again, and counts, once it is not
		}
		return nil, err
	}
	c.cert, c.by = cert, signer
	return cert, nil
}

// half is the middle of a certificate's life.
func half(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)
}
