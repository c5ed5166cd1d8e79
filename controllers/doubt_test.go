// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// TestKeysThatNotAllVerifyBy: an authority with such a key is in use, and that is said once for as long as it is.
func TestKeysThatNotAllVerifyBy(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "long"}, SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(ca.RootLifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	long := map[string][]byte{ca.CertKey: cert, ca.RootKey: cert, ca.KeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}
	usual := selfSignedFiles(t)

	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: givenCA}, Data: long}
	c := fake.NewClientBuilder().WithObjects(secret).Build()
	told := &toldEvents{}
	a := NewAuthority(c, c, "isthmus-system", "cluster.local", logr.Discard(), told, func() {})
	for i, step := range []struct {
		data map[string][]byte
		want int
	}{{long, 1}, {usual, 0}, {long, 1}} {
		secret.Data = step.data
		if err := c.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		*told = nil
		for range 2 {
			if _, err := a.Reconcile(t.Context(), ctrl.Request{}); err != nil {
				t.Fatal(err)
			}
			a.again = time.Unix(1, 0)
		}
		said := slices.DeleteFunc(*told, func(e string) bool { return !strings.HasPrefix(e, "KeyNotForAll: ") })
		if len(said) != step.want || step.want > 0 && !strings.Contains(said[0], `"CN=long" has an elliptic curve key of 521 bits`) {
			t.Errorf("step %d: %q", i, said)
		}
	}
}
