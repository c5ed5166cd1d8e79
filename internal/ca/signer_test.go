// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var cart = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// request is a CSR in PEM.
func request(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func parse(t testing.TB, s string) *x509.Certificate {
	t.Helper()
	certs, err := parseCertificates([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func selfSigned(t testing.TB) (*Signer, map[string][]byte) {
	t.Helper()
	files, err := SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	return s, files
}

// authority is a certificate that may sign, made by another or by itself.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	a := &authority{key: newKey(t)}
	if by == nil {
		by = &authority{template, a.key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, a.key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() []byte { return []byte(encodeCertificate(a.cert.Raw)) }

func (a *authority) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// plugged is the cacerts layout of an intermediate below root.
func plugged(t testing.TB, root, intermediate *authority) map[string][]byte {
	return map[string][]byte{
		CertKey: intermediate.pem(), KeyKey: intermediate.keyPEM(t), RootKey: root.pem(),
		ChainKey: slices.Concat(intermediate.pem(), root.pem()),
	}
}

func TestSelfSignedLeaf(t *testing.T) {
	s, _ := selfSigned(t)
	key := newKey(t)
	// What the request wishes for counts for nothing.
	wish, _ := url.Parse("spiffe://cluster.local/ns/kube-system/sa/admin")
	chain, err := s.Sign(cart, request(t, key, x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin"}, URIs: []*url.URL{wish}, DNSNames: []string{"kubernetes.default"},
	}), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 || chain[1] != s.RootPEM() {
		t.Fatalf("chain has %d elements, want leaf and root", len(chain))
	}
	leaf := parse(t, chain[0])
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != cart.String() || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 {
		t.Errorf("leaf is for %v %v", leaf.URIs, leaf.DNSNames)
	}
	if leaf.Subject.String() != "" {
		t.Errorf("subject is %s", leaf.Subject)
	}
	critical := slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) && e.Critical
	})
	if !critical {
		t.Error("subject alternative name is not critical")
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("leaf may sign: %v %v", leaf.IsCA, leaf.KeyUsage)
	}
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}) {
		t.Errorf("usages are %v", leaf.ExtKeyUsage)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("leaf is for another key")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.Roots(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	again, err := s.Sign(cart, request(t, key, x509.CertificateRequest{}), 0)
	if err != nil {
		t.Fatal(err)
	}
	if leaf.SerialNumber.Cmp(parse(t, again[0]).SerialNumber) == 0 {
		t.Error("two certificates have one serial number")
	}
}

func TestPluggedChain(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	middle := newAuthority(t, "middle", root, nil)
	issuer := newAuthority(t, "issuer", middle, nil)
	next := newAuthority(t, "next root", nil, nil) // bundles first: it is trusted before it signs
	s, err := NewSigner(map[string][]byte{
		CertKey: issuer.pem(), KeyKey: issuer.keyPEM(t), RootKey: slices.Concat(root.pem(), next.pem()),
		ChainKey: slices.Concat(middle.pem(), root.pem()),
	})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.Sign(cart, request(t, newKey(t), x509.CertificateRequest{}), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range chain[1:] {
		certs, err := parseCertificates([]byte(c))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range certs {
			names = append(names, c.Subject.CommonName)
		}
	}
	if got := strings.Join(names, ","); len(chain) != 4 || got != "issuer,middle,root,next root" {
		t.Errorf("chain of %d is leaf,%s", len(chain), got)
	}
	cert, err := s.ServerCertificate([]string{"isthmus-controller.isthmus-system.svc"})
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.Certificate) != 3 {
		t.Errorf("server shows %d certificates, want leaf, issuer, middle", len(cert.Certificate))
	}
	if err := cert.Leaf.VerifyHostname("isthmus-controller.isthmus-system.svc"); err != nil {
		t.Error(err)
	}
}

func TestLifetimes(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	short := newAuthority(t, "short", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2 * time.Hour) })
	long, err := NewSigner(plugged(t, root, newAuthority(t, "long", root, nil)))
	if err != nil {
		t.Fatal(err)
	}
	brief, err := NewSigner(plugged(t, root, short))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		signer *Signer
		asked  time.Duration
		want   time.Duration
	}{
		{"default", long, 0, 24 * time.Hour},
		{"negative", long, -1, 24 * time.Hour},
		{"asked", long, time.Hour, time.Hour},
		{"too long", long, 365 * 24 * time.Hour, 90 * 24 * time.Hour},
		{"not beyond its issuer", brief, 24 * time.Hour, 2 * time.Hour},
	} {
		chain, err := tc.signer.Sign(cart, request(t, newKey(t), x509.CertificateRequest{}), tc.asked)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		leaf := parse(t, chain[0])
		if got := time.Until(leaf.NotAfter); got > tc.want || got < tc.want-time.Minute {
			t.Errorf("%s: leaf ends in %s, want %s", tc.name, got, tc.want)
		}
		if time.Until(leaf.NotBefore) > -time.Minute {
			t.Errorf("%s: leaf begins at %s", tc.name, leaf.NotBefore)
		}
	}
	brief.now = func() time.Time { return time.Now().Add(3 * time.Hour) }
	if _, err := brief.Sign(cart, request(t, newKey(t), x509.CertificateRequest{}), 0); !errors.Is(err, errIssuerEnded) {
		t.Errorf("after the issuer's end: %v", err)
	}
}

func TestServingCertificateIsKeptAndRenewed(t *testing.T) {
	first, _ := selfSigned(t)
	now := time.Now()
	first.now = func() time.Time { return now }
	signer := first
	config := ServerConfig(func() *Signer { return signer }, "localhost")
	get := func() *x509.Certificate {
		cert, err := config.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf
	}
	a := get()
	if get() != a {
		t.Error("a certificate is not kept")
	}
	now = now.Add(13 * time.Hour)
	b := get()
	if b == a {
		t.Error("a certificate is not renewed at half of its life")
	}
	signer, _ = selfSigned(t)
	if c := get(); c == b {
		t.Error("another signer makes no other certificate")
	} else if _, err := c.Verify(x509.VerifyOptions{Roots: signer.Roots(), DNSName: "localhost"}); err != nil {
		t.Error(err)
	}
}

// TestAuthorityOfNoUse: a certificate that leads to a root and may sign may still issue what nobody takes.
func TestAuthorityOfNoUse(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	usable := func(files map[string][]byte) error {
		s, err := NewSigner(files)
		if err != nil {
			return err
		}
		return s.Proves("cluster.local", "isthmus-controller.isthmus-system.svc")
	}
	for name, tc := range map[string]struct {
		root   func(*x509.Certificate)
		issuer func(*x509.Certificate)
		want   string // in the error; empty: it is of use
	}{
		"as usual":                        {},
		"no certificate below the issuer": {root: func(c *x509.Certificate) { c.MaxPathLenZero = true }, want: CertKey + ": what the certificate signs is not accepted by who holds the roots of " + RootKey},
		"one below the root":              {root: func(c *x509.Certificate) { c.MaxPathLen = 1 }, issuer: func(c *x509.Certificate) { c.MaxPathLenZero = true }},
		"for servers alone":               {issuer: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, want: CertKey + ": what the certificate signs"},
		"for clients alone":               {root: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, issuer: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, want: CertKey + ": what the certificate signs"},
		"for both": {issuer: func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		}},
		"for another trust domain": {issuer: func(c *x509.Certificate) { c.PermittedURIDomains = []string{"else.example"} }, want: "identities of cluster.local are not accepted"},
		"not for ours":             {root: func(c *x509.Certificate) { c.ExcludedURIDomains = []string{"cluster.local"} }, want: "identities of cluster.local are not accepted"},
		"for ours":                 {issuer: func(c *x509.Certificate) { c.PermittedURIDomains = []string{"cluster.local"} }},
		"for other servers":        {issuer: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} }, want: "names of the control plane are not accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			top := root
			if tc.root != nil {
				top = newAuthority(t, "root", nil, tc.root)
			}
			err := usable(plugged(t, top, newAuthority(t, "issuer", top, tc.issuer)))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestChainOfUse: of several ways up the one counts by which peers take what is issued, also if another lasts longer.
func TestChainOfUse(t *testing.T) {
	narrow := newAuthority(t, "narrow", nil, func(c *x509.Certificate) {
		c.MaxPathLenZero = true
		c.NotAfter = time.Now().Add(2 * 365 * 24 * time.Hour)
	})
	issuer := newAuthority(t, "issuer", narrow, nil)
	next := newAuthority(t, "next", nil, nil)
	template := &x509.Certificate{ // the same authority, of which another says that it may
		Subject: narrow.cert.Subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(300 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, next.cert, narrow.key.Public(), next.key)
	if err != nil {
		t.Fatal(err)
	}
	files := plugged(t, narrow, issuer)
	files[RootKey] = slices.Concat(narrow.pem(), next.pem())
	files[ChainKey] = []byte(encodeCertificate(der))
	s, err := NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Top().Equal(next.cert) || len(s.chain) != 2 {
		t.Errorf("certificates lead to %q by %d others", s.Top().Subject, len(s.chain))
	}
	if got := s.EndsFirst().Raw; !slices.Equal(got, der) || !s.NotAfter().Equal(s.EndsFirst().NotAfter) {
		t.Errorf("the first to end is another one, and what is issued ends by %s", s.NotAfter())
	}
}
