// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/rand"
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

// signedAgain is the same name and key, vouched for by another.
func signedAgain(t testing.TB, a, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: a.cert.Subject, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, IsCA: true, BasicConstraintsValid: true, KeyUsage: a.cert.KeyUsage,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, a.key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, a.key}
}

// While a root takes over from another that has signed it, there are peers that hold the older one alone, peers that hold the younger one alone, and peers that hold both. All of
// them take what is issued, and what lasts longer bounds it.
func TestEveryRootIsLedTo(t *testing.T) {
	soon := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(30 * 24 * time.Hour) }
	old := newAuthority(t, "old", nil, soon)
	young := newAuthority(t, "young", nil, nil)
	cross := signedAgain(t, young, old, soon)
	issuer := newAuthority(t, "issuer", young, nil)
	both := slices.Concat(old.pem(), young.pem())
	for name, tc := range map[string]struct {
		files map[string][]byte
		sent  int
	}{
		"the root is signed by the older one": {
			map[string][]byte{CertKey: issuer.pem(), KeyKey: issuer.keyPEM(t), ChainKey: cross.pem(), RootKey: both}, 2},
		"the root issues": {
			map[string][]byte{CertKey: young.pem(), KeyKey: young.keyPEM(t), ChainKey: cross.pem(), RootKey: both}, 1},
		"the root issues, by the certificate that the older one made": {
			map[string][]byte{CertKey: cross.pem(), KeyKey: young.keyPEM(t), RootKey: both}, 1},
		"the issuer is signed by both": {
			map[string][]byte{CertKey: issuer.pem(), KeyKey: issuer.keyPEM(t), ChainKey: signedAgain(t, issuer, old, soon).pem(), RootKey: both}, 2},
	} {
		s, err := NewSigner(tc.files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !s.Top().Equal(young.cert) || !s.NotAfter().Equal(young.cert.NotAfter) && !s.NotAfter().Equal(issuer.cert.NotAfter) {
			t.Errorf("%s: what is issued ends by %s, as that of %q", name, s.NotAfter(), s.Top().Subject)
		}
		answer, err := s.Sign(cart, request(t, newKey(t), x509.CertificateRequest{}), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if len(answer) != 2+tc.sent {
			t.Errorf("%s: %d certificates follow a leaf, want %d", name, len(answer)-2, tc.sent)
		}
		intermediates := x509.NewCertPool()
		for _, c := range answer[1 : len(answer)-1] {
			intermediates.AddCert(parse(t, c))
		}
		for who, roots := range map[string][]*authority{"old": {old}, "young": {young}, "both": {old, young}} {
			pool := x509.NewCertPool()
			for _, r := range roots {
				pool.AddCert(r.cert)
			}
			for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
				if _, err := parse(t, answer[0]).Verify(x509.VerifyOptions{Roots: pool, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
					t.Errorf("%s: who holds %s does not take it: %v", name, who, err)
				}
			}
		}
		before, err := NewSigner(map[string][]byte{CertKey: old.pem(), KeyKey: old.keyPEM(t), RootKey: old.pem()})
		if err != nil {
			t.Fatal(err)
		}
		if !before.Accepts(s) {
			t.Errorf("%s: it is said that who holds the older root does not take it", name)
		}
	}
}

// What is sent along leads to a root that peers may hold, by certificates that are good for it.
func TestWhatLeadsNowhereIsNotSent(t *testing.T) {
	old := newAuthority(t, "old", nil, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	young := newAuthority(t, "young", nil, nil)
	issuer := newAuthority(t, "issuer", young, nil)
	for name, above := range map[string][]byte{
		"the older root allows nothing below": signedAgain(t, young, old, nil).pem(),
		"it has ended":                        signedAgain(t, young, old, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).pem(),
		"by nobody here":                      signedAgain(t, young, newAuthority(t, "former", nil, nil), nil).pem(),
		"the root itself":                     young.pem(),
	} {
		s, err := NewSigner(map[string][]byte{CertKey: issuer.pem(), KeyKey: issuer.keyPEM(t), ChainKey: above, RootKey: slices.Concat(old.pem(), young.pem())})
		if err != nil || len(s.chain) != 1 || !s.Top().Equal(young.cert) {
			t.Errorf("%s: %v; %d certificates follow a leaf", name, err, len(s.chain))
		}
	}
}

// A chain that our proxies would refuse is no authority's.
func TestAChainThatIsTooLong(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	var above []byte
	issuer := root
	for range maxSent {
		issuer = newAuthority(t, issuer.cert.Subject.CommonName+"i", issuer, nil)
		above = slices.Concat(issuer.pem(), above)
	}
	files := func() map[string][]byte {
		return map[string][]byte{CertKey: issuer.pem(), KeyKey: issuer.keyPEM(t), ChainKey: above, RootKey: root.pem()}
	}
	if s, err := NewSigner(files()); err != nil || len(s.chain) != maxSent {
		t.Errorf("of %d: %v", maxSent, err)
	}
	issuer = newAuthority(t, "last", issuer, nil)
	if _, err := NewSigner(files()); err == nil {
		t.Error("one more is taken")
	}
}
