// SPDX-License-Identifier: Apache-2.0

package ambient

import (
	"context"
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
	"time"
)

// secretTTL is the lifetime that ztunnel asks for, in seconds.
const secretTTL = 86400

// Certify asks for a certificate for a SPIFFE id as ztunnel does, in the holder's name unless own is true, and gives it with its key if it is one that
// ztunnel takes: the leaf for that id and no other, then what leads to the root bundle, which is last.
func (o Options) Certify(ctx context.Context, id string, own bool) (*tls.Certificate, *x509.CertPool, error) {
	conn, err := o.dial()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close() }() // it can only say that it is closed
	key, csr, err := request(id)
	if err != nil {
		return nil, nil, err
	}
	var m message
	m.bytes(1, csr)
	m.number(3, secretTTL)
	if !own {
		m.bytes(4, properties(map[string]string{"ImpersonatedIdentity": id}))
	}
	var body []byte
	if err := conn.Invoke(o.call(ctx), issueMethod, m, &body); err != nil {
		return nil, nil, err
	}
	f, err := parse(body)
	if err != nil {
		return nil, nil, err
	}
	return readChain(f.texts(1), id, key)
}

// request makes a key and a request with an empty subject and one critical URI.
func request(id string) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	// GeneralName: uniformResourceIdentifier [6] (RFC 5280 §4.2.1.6).
	names, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(id)}})
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		SignatureAlgorithm: x509.ECDSAWithSHA256,
		ExtraExtensions:    []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: names}},
	}, key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func readChain(chain []string, id string, key *ecdsa.PrivateKey) (*tls.Certificate, *x509.CertPool, error) {
	if len(chain) < 2 {
		return nil, nil, fmt.Errorf("chain of %d elements: no root", len(chain))
	}
	cert := &tls.Certificate{PrivateKey: key}
	intermediates := x509.NewCertPool()
	for i, element := range chain[:len(chain)-1] {
		block, rest := pem.Decode([]byte(element))
		if block == nil || len(rest) > 0 {
			return nil, nil, fmt.Errorf("element %d is not one certificate in PEM", i)
		}
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			cert.Leaf = parsed
		} else {
			intermediates.AddCert(parsed)
		}
		cert.Certificate = append(cert.Certificate, block.Bytes)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(chain[len(chain)-1])) {
		return nil, nil, errors.New("the last element holds no root")
	}
	if uris := cert.Leaf.URIs; len(uris) != 1 || uris[0].String() != id {
		return nil, nil, fmt.Errorf("certificate is for %v, want %s", uris, id)
	}
	if !key.PublicKey.Equal(cert.Leaf.PublicKey) {
		return nil, nil, errors.New("certificate is for another key")
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		chains, err := cert.Leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return nil, nil, err
		}
		for _, above := range chains[0][1:] {
			if cert.Leaf.NotAfter.After(above.NotAfter) {
				return nil, nil, fmt.Errorf("leaf outlives its issuer %s", above.Subject)
			}
		}
	}
	return cert, roots, nil
}
