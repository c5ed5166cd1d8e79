// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Secret of cert-manager's is used as it is.
func TestCertManagerLayout(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	middle := newAuthority(t, "middle", root, nil)
	issuer := newAuthority(t, "issuer", middle, nil)
	next := newAuthority(t, "next", nil, nil)
	whole := map[string][]byte{TLSCertKey: slices.Concat(issuer.pem(), middle.pem()), TLSKeyKey: issuer.keyPEM(t), TLSRootKey: root.pem()}
	for name, tc := range map[string]struct {
		change map[string][]byte
		chain  string // what follows a leaf
		want   string // what the error names
	}{
		"intermediate":       {nil, "issuer,middle,root", ""},
		"self-signed":        {map[string][]byte{TLSCertKey: root.pem(), TLSKeyKey: root.keyPEM(t)}, "root", ""},
		"a second root":      {map[string][]byte{RootKey: slices.Concat(next.pem(), root.pem())}, "issuer,middle,root,next", ""},
		"root elsewhere":     {map[string][]byte{TLSRootKey: nil, RootKey: root.pem()}, "issuer,middle,root", ""},
		"and a cacerts":      {map[string][]byte{CertKey: next.pem(), KeyKey: next.keyPEM(t)}, "issuer,middle,root", ""},
		"no root":            {map[string][]byte{TLSRootKey: nil}, "", TLSRootKey},
		"broken root":        {map[string][]byte{RootKey: []byte("hello")}, "", RootKey},
		"no key":             {map[string][]byte{TLSKeyKey: nil}, "", TLSKeyKey},
		"key of another":     {map[string][]byte{TLSKeyKey: next.keyPEM(t)}, "", TLSKeyKey},
		"root of another":    {map[string][]byte{TLSRootKey: next.pem()}, "", TLSRootKey},
		"without the middle": {map[string][]byte{TLSCertKey: issuer.pem()}, "", TLSCertKey},
	} {
		files := maps.Clone(whole)
		maps.Copy(files, tc.change)
		s, err := NewSigner(files)
		if err != nil || tc.want != "" {
			if err == nil || tc.want == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want one that names %q", name, err, tc.want)
			}
			continue
		}
		chain, err := s.Sign(cart, request(t, newKey(t), x509.CertificateRequest{}), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		certs, err := parseCertificates([]byte(strings.Join(chain[1:], "")))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range certs {
			names = append(names, c.Subject.CommonName)
		}
		if got := strings.Join(names, ","); got != tc.chain {
			t.Errorf("%s: a leaf is followed by %s, want %s", name, got, tc.chain)
		}
	}
}

// Of two ways up, the one that ends later bounds the leaves.
func TestTheLongerWayUpCounts(t *testing.T) {
	soon := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) }
	old := newAuthority(t, "old", nil, soon)
	young := newAuthority(t, "young", nil, nil)
	// "young", signed by "old" as well: the same name and key.
	cross := &authority{key: young.key}
	der, err := x509.CreateCertificate(nil, young.cert, old.cert, young.key.Public(), old.key)
	if err != nil {
		t.Fatal(err)
	}
	if cross.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	issuer := newAuthority(t, "issuer", young, nil)
	for _, roots := range [][]byte{slices.Concat(old.pem(), young.pem()), slices.Concat(young.pem(), old.pem())} {
		s, err := NewSigner(map[string][]byte{CertKey: issuer.pem(), KeyKey: issuer.keyPEM(t), RootKey: roots, ChainKey: cross.pem()})
		if err != nil {
			t.Fatal(err)
		}
		if time.Until(s.NotAfter()) < 2*time.Hour {
			t.Errorf("the signer ends at %s", s.NotAfter())
		}
	}
}
