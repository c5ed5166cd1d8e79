// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// proof is what an attacker shows as a client, and what it is worth. Certificates are made here and not by the product's authority, whose care is part of what is
// tested.
type proof struct {
	name  string
	cert  *tls.Certificate // nil: none
	valid bool             // it proves an identity of the mesh
	// friend says that the identity is the one that may reach the vault.
	friend bool
}

const (
	friendURI   = "spiffe://cluster.local/ns/demo/sa/friend"
	strangerURI = "spiffe://cluster.local/ns/demo/sa/stranger"
)

// issuer signs certificates with a key.
type issuer struct {
	cert  *x509.Certificate
	key   any
	chain [][]byte // what clients show behind their leaf
}

func issuerOf(authority map[string][]byte) (issuer, error) {
	certPEM, _ := pem.Decode(authority[ca.CertKey])
	keyPEM, _ := pem.Decode(authority[ca.KeyKey])
	if certPEM == nil || keyPEM == nil {
		return issuer{}, errors.New("the authority has no certificate or no key")
	}
	cert, err := x509.ParseCertificate(certPEM.Bytes)
	if err != nil {
		return issuer{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyPEM.Bytes)
	return issuer{cert, key, [][]byte{certPEM.Bytes}}, err
}

// sign makes a leaf for both ends of TLS with these names, which change may change before it is signed.
func (i issuer) sign(change func(*x509.Certificate), uris ...string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	number, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: number, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(6 * time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("name in a certificate: %w", err)
		}
		template.URIs = append(template.URIs, u)
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: append([][]byte{der}, i.chain...), PrivateKey: key, Leaf: leaf}, err
}

// theGateway is the proof that only the gateway could have.
const theGateway = "the gateway itself"

// newProofs makes the two that count, friend and stranger, and all others that might be taken for one of them. The first two are valid.
func newProofs(authority map[string][]byte) ([]proof, error) {
	ours, err := issuerOf(authority)
	if err != nil {
		return nil, err
	}
	foreign, err := ca.SelfSigned("cluster.local")
	if err != nil {
		return nil, err
	}
	other, err := issuerOf(foreign)
	if err != nil {
		return nil, err
	}
	pretender := other // shows our root behind what another one signed
	pretender.chain = ours.chain
	out := []proof{{name: "no certificate"}}
	var failed error
	add := func(p proof, by issuer, change func(*x509.Certificate), uris ...string) {
		cert, err := by.sign(change, uris...)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.name, err))
			return
		}
		p.cert = cert
		out = append(out, p)
	}
	add(proof{name: "friend", valid: true, friend: true}, ours, nil, friendURI)
	add(proof{name: "stranger", valid: true}, ours, nil, strangerURI)
	add(proof{name: "friend of another namespace", valid: true}, ours, nil, "spiffe://cluster.local/ns/other/sa/friend")
	add(proof{name: "namespace and account swapped", valid: true}, ours, nil, "spiffe://cluster.local/ns/friend/sa/demo")
	add(proof{name: theGateway, valid: true}, ours, nil, "spiffe://cluster.local/ns/isthmus-system/sa/eastwest")
	for _, uri := range []string{
		"spiffe://evil.local/ns/demo/sa/friend", "spiffe://cluster.local.evil/ns/demo/sa/friend", "spiffe://alias.local/ns/demo/sa/friend",
		"spiffe://cluster.local:443/ns/demo/sa/friend", "spiffe://user@cluster.local/ns/demo/sa/friend",
		"https://cluster.local/ns/demo/sa/friend", "spiffe:cluster.local/ns/demo/sa/friend",
		"spiffe://cluster.local/ns/demo/sa/friend/", "spiffe://cluster.local/ns/demo/sa/friend/x", "spiffe://cluster.local//ns/demo/sa/friend",
		"spiffe://cluster.local/ns/demo/sa/friend?x=1", "spiffe://cluster.local/ns/demo/sa/friend#x", "spiffe://cluster.local/ns/other/../demo/sa/friend",
		"spiffe://cluster.local/ns/demo/sa/%66riend", "spiffe://cluster.local/ns/demo/sa/", "spiffe://cluster.local/ns//sa/friend", "spiffe://cluster.local",
		"spiffe://CLUSTER.LOCAL/ns/demo/sa/friend", "spiffe://cluster.local/NS/demo/SA/friend", "spiffe://cluster.local/ns/demo/sa/fri\u0435nd",
	} {
		add(proof{name: uri}, ours, nil, uri)
	}
	add(proof{name: "friend in capitals", valid: true}, ours, nil, "spiffe://cluster.local/ns/demo/sa/Friend")
	add(proof{name: "two names, friend first"}, ours, nil, friendURI, strangerURI)
	add(proof{name: "two names, friend last"}, ours, nil, strangerURI, friendURI)
	add(proof{name: "friend by DNS and mail only"}, ours, func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses = []string{friendURI[9:]}, []string{"friend@cluster.local"}
	})
	add(proof{name: "friend by common name only"}, ours, func(c *x509.Certificate) { c.Subject.CommonName = friendURI })
	add(proof{name: "friend, expired"}, ours, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute)
	}, friendURI)
	add(proof{name: "friend, not yet"}, ours, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, friendURI)
	add(proof{name: "friend, for servers only"}, ours, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, friendURI)
	add(proof{name: "friend, of another authority"}, other, nil, friendURI)
	add(proof{name: "friend, of another authority that shows our root"}, pretender, nil, friendURI)
	// Who has a certificate is no authority.
	holder, err := ours.sign(nil, strangerURI)
	if err != nil {
		return nil, err
	}
	add(proof{name: "friend, signed by a stranger"}, issuer{holder.Leaf, holder.PrivateKey, holder.Certificate}, nil, friendURI)
	return out, failed
}
