// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestRevokedCertificate revokes the client's certificate while it has connections in its own cluster and, through the gateway, in the other: those to whoever
// heard of it end and say why, and so does the next attempt.
func TestRevokedCertificate(t *testing.T) {
	w := newWorld(t)
	block, _ := pem.Decode(w.authority[ca.CertKey])
	issuer, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	block, _ = pem.Decode(w.authority[ca.KeyKey])
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(t, err)
	open := func(to string) func() error {
		t.Helper()
		nc, err := w.client.dial(to)
		must(t, err)
		t.Cleanup(func() { nc.Close() })
		_, err = nc.Write([]byte("x"))
		must(t, err)
		if _, err := w.client.call(to, "x"); err != nil {
			t.Fatal(err)
		}
		return func() error {
			must(t, nc.SetReadDeadline(time.Now().Add(5*time.Second)))
			_, err := nc.Read(make([]byte, 1))
			return err
		}
	}
	here, there := open("10.96.0.10:80"), open("240.240.0.5:80")
	held, err := w.east.certs.Certificate(t.Context(), mesh.Identity{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: "client"})
	must(t, err)
	leaf, err := x509.ParseCertificate(held.TLS.Certificate[0])
	must(t, err)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: time.Now()}},
	}, issuer, key.(*ecdsa.PrivateKey))
	must(t, err)
	told := map[string]*mesh.Bundle{trustDomain: {TrustDomain: trustDomain, Roots: [][]byte{issuer.Raw}, Revoked: [][]byte{der}}}
	for _, c := range []struct {
		*cluster
		ended func() error
		to    string
	}{{w.west, there, "240.240.0.5:80"}, {w.east, here, "10.96.0.10:80"}} {
		must(t, c.certs.Follow(told))
		if err := c.ended(); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection gave %v, want its end", c.name, err)
		}
		if got, err := w.client.call(c.to, "x"); err == nil {
			t.Errorf("%s: a revoked client was answered %q", c.name, got)
		}
		c.log.find(t, `"reason":"CERT_REVOKED"`, `"direction":"inbound"`)
	}
}
