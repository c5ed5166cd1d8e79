// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// A key that some peers cannot verify with is told of, wherever it is on the way to a root. All of these authorities are of use.
func TestDoubts(t *testing.T) {
	curve := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, p384, p521 := curve(elliptic.P256()), curve(elliptic.P384()), curve(elliptic.P521())
	for _, tc := range []struct {
		name         string
		root, issuer crypto.Signer
		hash         x509.SignatureAlgorithm // by which the root signs
		want         []string
	}{
		{"usual", p256, p384, 0, nil},
		{"RSA", rsaKey(t, 2048), p256, 0, nil},
		{"Ed25519", ed, p256, 0, nil},
		{"an issuer of P-521", p256, p521, 0, []string{`"CN=issuer" has an elliptic curve key of 521 bits`}},
		{"a root of P-521", p521, p256, x509.ECDSAWithSHA384, []string{`"CN=root" has an elliptic curve key of 521 bits`}},
		{"both", p521, p521, x509.ECDSAWithSHA384, []string{`"CN=issuer" has`, `"CN=root" has`}},
		{"P-224", curve(elliptic.P224()), p256, 0, []string{"224 bits"}},
		{"RSA that is short", rsaKey(t, 1024), p256, 0, []string{"an RSA key of 1024 bits"}},
		{"SHA-512", p384, p256, x509.ECDSAWithSHA512, []string{`"CN=issuer" is signed by ECDSA with SHA-512`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			made := func(name string, by *x509.Certificate, byKey, key crypto.Signer) *x509.Certificate {
				template := &x509.Certificate{
					Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
					IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: tc.hash,
				}
				if by == nil {
					by = template
				}
				der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
				if err != nil {
					t.Fatal(err)
				}
				return parse(t, encodeCertificate(der))
			}
			root := made("root", nil, tc.root, tc.root)
			issuer := made("issuer", root, tc.root, tc.issuer)
			key, err := x509.MarshalPKCS8PrivateKey(tc.issuer)
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewSigner(map[string][]byte{
				CertKey: []byte(encodeCertificate(issuer.Raw)), RootKey: []byte(encodeCertificate(root.Raw)), KeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
			})
			if err != nil {
				t.Fatal(err)
			}
			got := s.Doubts()
			if len(tc.want) == 0 && got != nil {
				t.Errorf("%v, want no doubt", got)
			}
			for _, want := range tc.want {
				if got == nil || !strings.Contains(got.Error(), want) {
					t.Errorf("%v, want something about %s", got, want)
				}
			}
			if got != nil && strings.Count(got.Error(), "\n") != len(tc.want)-1 {
				t.Errorf("%v, want %d doubts", got, len(tc.want))
			}
		})
	}
}
