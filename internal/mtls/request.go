// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Certificate is a key and a chain that prove one identity, and the roots that came with them. It is never changed.
type Certificate struct {
	TLS tls.Certificate
	// Roots are those of the identity's own trust domain when the certificate was issued. Handshakes use the newest
	// bundle that the Source knows, not this one.
	Roots    *x509.CertPool
	NotAfter time.Time
	bundle   *x509bundle.Bundle
}

// subjectAltName is the extension that carries the URI SAN (RFC 5280, section 4.2.1.6).
var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// newRequest makes a P-256 key and a certificate request for it, in PEM: empty subject and one critical URI SAN, as the
// subject is empty (RFC 5280, section 4.2.1.6) and as ztunnel does.
func newRequest(id mesh.Identity) (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, nil, fmt.Errorf("identity as URI: %w", err)
	}
	// GeneralName [6] uniformResourceIdentifier, IMPLICIT IA5String.
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri.String())}})
	if err != nil {
		return nil, nil, fmt.Errorf("encode subject alternative name: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		ExtraExtensions: []pkix.Extension{{Id: subjectAltName, Critical: true, Value: san}},
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("create certificate request: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// newCertificate reads an issuer's answer: leaf first, root bundle last, intermediates between. It is refused unless it
// proves exactly id with key, now, under its own roots.
func newCertificate(id mesh.Identity, key crypto.Signer, chainPEM []string) (*Certificate, error) {
	if len(chainPEM) < 2 {
		return nil, fmt.Errorf("issuer answered %d elements, want a leaf and a root bundle at least", len(chainPEM))
	}
	domain, err := spiffeid.TrustDomainFromString(id.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("trust domain of %s: %w", id, err)
	}
	bundle, err := x509bundle.Parse(domain, []byte(chainPEM[len(chainPEM)-1]))
	if err != nil {
		return nil, fmt.Errorf("root bundle: %w", err)
	}
	if bundle.Empty() {
		return nil, errors.New("root bundle holds no certificate")
	}
	var certs []*x509.Certificate
	cert := tls.Certificate{PrivateKey: key}
	for i, element := range chainPEM[:len(chainPEM)-1] {
		parsed, err := parseCertificates([]byte(element))
		if err != nil {
			return nil, fmt.Errorf("element %d of the chain: %w", i, err)
		}
		for _, c := range parsed {
			certs = append(certs, c)
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("chain holds no certificate")
	}
	leaf := certs[0]
	cert.Leaf = leaf
	if public, ok := key.Public().(*ecdsa.PublicKey); !ok || !public.Equal(leaf.PublicKey) {
		return nil, errors.New("leaf is for another key")
	}
	if got, err := identityOf(leaf); err != nil {
		return nil, fmt.Errorf("leaf: %w", err)
	} else if got != id {
		return nil, fmt.Errorf("leaf is for %s", got)
	}
	if _, _, err := x509svid.Verify(certs, bundle); err != nil {
		return nil, fmt.Errorf("leaf under its own roots: %w", err)
	}
	roots := x509.NewCertPool()
	for _, root := range bundle.X509Authorities() {
		roots.AddCert(root)
	}
	return &Certificate{TLS: cert, Roots: roots, NotAfter: leaf.NotAfter, bundle: bundle}, nil
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return certs, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block of type %q, want CERTIFICATE", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
}

// identityOf reads the one identity that a leaf carries.
func identityOf(leaf *x509.Certificate) (mesh.Identity, error) {
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return mesh.Identity{}, err
	}
	return mesh.ParseIdentity(id.String())
}
