// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestSignerRefusesFiles(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	other := newAuthority(t, "other", nil, nil)
	issuer := newAuthority(t, "issuer", root, nil)
	leaf := newAuthority(t, "leaf", root, func(c *x509.Certificate) { c.IsCA = false })
	nosign := newAuthority(t, "nosign", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	ended := newAuthority(t, "ended", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	edKey, err := x509.MarshalPKCS8PrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change map[string][]byte
		of     *authority
		want   string
	}{
		"good":             {nil, issuer, ""},
		"no certificate":   {map[string][]byte{CertKey: nil}, issuer, CertKey},
		"no key":           {map[string][]byte{KeyKey: nil}, issuer, KeyKey},
		"no root":          {map[string][]byte{RootKey: nil}, issuer, RootKey},
		"broken chain":     {map[string][]byte{ChainKey: []byte("hello")}, issuer, ChainKey},
		"key as chain":     {map[string][]byte{ChainKey: issuer.keyPEM(t)}, issuer, ChainKey},
		"certificate key":  {map[string][]byte{KeyKey: issuer.pem()}, issuer, KeyKey},
		"broken key":       {map[string][]byte{KeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})}, issuer, KeyKey},
		"key of another":   {map[string][]byte{KeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: edKey})}, issuer, KeyKey},
		"root of another":  {map[string][]byte{RootKey: other.pem(), ChainKey: nil}, issuer, RootKey},
		"leaf":             {nil, leaf, CertKey},
		"may not sign":     {nil, nosign, CertKey},
		"ended":            {nil, ended, CertKey},
		"no chain is fine": {map[string][]byte{ChainKey: nil}, issuer, ""},
		"chain without us": {map[string][]byte{ChainKey: root.pem()}, issuer, ""},
	} {
		files := plugged(t, root, tc.of)
		maps.Copy(files, tc.change)
		_, err := NewSigner(files)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want one that names %q", name, err, tc.want)
		}
	}
}

func TestRequestsRefused(t *testing.T) {
	s, files := selfSigned(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := request(t, newKey(t), x509.CertificateRequest{})
	block, _ := pem.Decode(good)
	broken := slices.Clone(block.Bytes)
	broken[len(broken)-1] ^= 1 // in the signature
	for name, tc := range map[string]struct {
		in   []byte
		want string
	}{
		"nothing":       {nil, "PEM"},
		"text":          {[]byte("hello"), "PEM"},
		"certificate":   {files[CertKey], "CERTIFICATE REQUEST"},
		"two":           {slices.Concat(good, good), "followed"},
		"huge":          {slices.Concat(good, make([]byte, maxRequestBytes)), "bytes"},
		"garbage":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{0x30}}), "read"},
		"signature":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: broken}), "signed"},
		"Ed25519":       {request(t, ed, x509.CertificateRequest{}), "type"},
		"P-224":         {request(t, weak, x509.CertificateRequest{}), "224"},
		"good, spaces":  {slices.Concat(good, []byte("\n \n")), ""},
		"good":          {good, ""},
		"good RSA 2048": {request(t, rsaKey(t, 2048), x509.CertificateRequest{}), ""},
	} {
		_, err := s.Sign(cart, tc.in, 0)
		var bad *RequestError
		if tc.want == "" && err != nil || tc.want != "" && (!errors.As(err, &bad) || !strings.Contains(bad.Reason, tc.want)) {
			t.Errorf("%s: %v, want a refusal about %q", name, err, tc.want)
		}
	}
	if _, err := s.Sign(mesh.Identity{}, good, 0); err == nil {
		t.Error("the zero identity was certified")
	}
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Nothing in a request makes the reader panic, or accept a key that is not of a kind that we sign for.
func FuzzReadRequest(f *testing.F) {
	f.Add(request(f, newKey(f), x509.CertificateRequest{DNSNames: []string{"a"}}))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		key, err := readRequest(in)
		if err != nil {
			var bad *RequestError
			if !errors.As(err, &bad) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		switch key.(type) {
		case *ecdsa.PublicKey, *rsa.PublicKey:
		default:
			t.Fatalf("accepted a key of type %T", key)
		}
	})
}

// A Secret is written by people.
func FuzzNewSigner(f *testing.F) {
	_, files := selfSigned(f)
	f.Add(files[CertKey], files[KeyKey], files[RootKey], files[ChainKey])
	f.Fuzz(func(t *testing.T, cert, key, root, chain []byte) {
		s, err := NewSigner(map[string][]byte{CertKey: cert, KeyKey: key, RootKey: root, ChainKey: chain})
		if err == nil && s.RootPEM() == "" {
			t.Fatal("a signer without roots")
		}
	})
}
