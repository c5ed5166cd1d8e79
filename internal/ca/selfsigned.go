// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"time"
)

// RootLifetime is how long a self-signed root lasts (the figure of istiod, discovery.md part 5).
const RootLifetime = 10 * 365 * 24 * time.Hour

// SelfSigned makes a new root that issues itself, in the cacerts layout, for a single cluster whose operator brought
// none. trustDomain is only told in its subject.
func SelfSigned(trustDomain string) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{trustDomain}, CommonName: "Isthmus root"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(RootLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := []byte(encodeCertificate(der))
	return map[string][]byte{
		CertKey:  cert,
		KeyKey:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		RootKey:  cert,
		ChainKey: cert,
	}, nil
}
