// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// authority is a certificate authority with every knob that an honest one must not have.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	up   *authority // nil for a root

	mu     sync.Mutex // hold for the fields below
	ttl    time.Duration
	change func(*x509.Certificate)
	fail   error
	calls  int
	block  chan struct{} // non-nil: Issue waits for it
}

func newAuthority(t testing.TB, name string, up *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(1000 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a := &authority{t: t, key: key, up: up, ttl: 24 * time.Hour}
	parent, signer := template, key
	if up != nil {
		parent, signer = up.cert, up.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// sign makes a leaf for the key.
func (a *authority) sign(public crypto.PublicKey, uris []*url.URL, ttl time.Duration, change func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(ttl),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:         uris,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		a.t.Error(err)
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Error(err)
	}
	return cert
}

// Issue is the Issuer: it answers what the request asks for, changed by the knobs.
func (a *authority) Issue(ctx context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	a.mu.Lock()
	a.calls++
	ttl, change, fail, block := a.ttl, a.change, a.fail, a.block
	a.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	request, _ := pem.Decode(csrPEM)
	if request == nil {
		return nil, errors.New("no PEM in the request")
	}
	csr, err := x509.ParseCertificateRequest(request.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	leaf := a.sign(csr.PublicKey, csr.URIs, ttl, change)
	chain := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))}
	root := a
	for ; root.up != nil; root = root.up {
		chain = append(chain, root.pem())
	}
	return append(chain, root.pem()), nil
}

func (a *authority) set(change func(a *authority)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *authority) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}
