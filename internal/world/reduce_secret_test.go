// SPDX-License-Identifier: Apache-2.0

package world

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A Secret holds any bytes. What is not PEM in it, and need not even be text, is told to nobody.
func TestSecretIsItsPEM(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	chain, proof := block("CERTIFICATE", leaf), block("PRIVATE KEY", private)
	for _, tc := range []struct{ is, chain, key string }{
		{"plain", chain, proof},
		{"among bytes that are no text", "\xff\n" + chain + "\xfe", "\xff\n" + proof + "\xfe"},
		{"with parameters before the key", chain, block("EC PARAMETERS", []byte{1}) + proof},
	} {
		got := ReduceSecret("east", &corev1.Secret{Data: map[string][]byte{corev1.TLSCertKey: []byte(tc.chain), corev1.TLSPrivateKeyKey: []byte(tc.key)}})
		if got.Problem != "" || got.Chain != chain || got.PrivateKey != proof {
			t.Errorf("%s: %q, %q, %s", tc.is, got.Chain, got.PrivateKey, got.Problem)
		}
	}
}
