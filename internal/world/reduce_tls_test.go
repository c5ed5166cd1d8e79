// SPDX-License-Identifier: Apache-2.0

package world

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

func someCA(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestAnchorsIn(t *testing.T) {
	one, two := someCA(t), someCA(t)
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}))
	odd := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("odd")}))
	for _, tc := range []struct{ is, data, want, problem string }{
		{"one", one, one, ""},
		{"two, with words between", "# first\n" + one + "\n# second\n" + two, one + two, ""},
		{"with what is none of anybody's business", key + one, one, ""},
		{"nothing", " \n", "", "it has no ca.crt"},
		{"words", "hello", "", "no certificate in PEM"},
		{"a key alone", key, "", "no certificate in PEM"},
		{"one, and one that is none", one + odd, "", "something that is no certificate"},
	} {
		if got, problem := anchorsIn([]byte(tc.data)); got != tc.want || !strings.Contains(problem, tc.problem) || (problem == "") != (tc.problem == "") {
			t.Errorf("%s: %q, %q", tc.is, got, problem)
		}
	}
}

// What is read is read again as the same, and every byte of it is a certificate.
func FuzzAnchorsIn(f *testing.F) {
	one := someCA(f)
	for _, s := range []string{"", one, one + one, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", strings.Replace(one, "CERT", "cert", 1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, problem := anchorsIn(data)
		if (got == "") == (problem == "") {
			t.Fatalf("%q, %q", got, problem)
		}
		if got == "" {
			return
		}
		if again, problem := anchorsIn([]byte(got)); again != got || problem != "" {
			t.Errorf("%q, %q", again, problem)
		}
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(got)) {
			t.Error("no pool takes it")
		}
	})
}
