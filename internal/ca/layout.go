// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// The keys of the cacerts layout, all in PEM.
const (
	CertKey  = "ca-cert.pem"    // the issuing certificate
	KeyKey   = "ca-key.pem"     // its key
	RootKey  = "root-cert.pem"  // every root that peers shall trust
	ChainKey = "cert-chain.pem" // from the issuing certificate towards a root; may be absent if the issuer is a root
)

// The keys of a Secret of type kubernetes.io/tls, as cert-manager writes it for a Certificate with isCA. It may hold RootKey too: further roots that
// peers shall trust, which is how its root is rotated without a lost handshake.
const (
	TLSCertKey = "tls.crt" // the issuing certificate, and what leads to a root
	TLSKeyKey  = "tls.key" // its key
	TLSRootKey = "ca.crt"  // its root
)

// layout says under which keys a Secret holds what.
type layout struct {
	cert, key string
	chain     string // "" if the chain follows the certificate
	roots     []string
}

var (
	pluggedLayout = layout{cert: CertKey, key: KeyKey, chain: ChainKey, roots: []string{RootKey}}
	managedLayout = layout{cert: TLSCertKey, key: TLSKeyKey, roots: []string{TLSRootKey, RootKey}}
)

// layoutOf recognises a layout. Of two in one Secret the one that is kept fresh by somebody counts, as with istiod.
func layoutOf(files map[string][]byte) layout {
	if len(files[TLSCertKey]) > 0 {
		return managedLayout
	}
	return pluggedLayout
}

// readRoots reads all roots of a layout, each once, in their order.
func (l layout) readRoots(files map[string][]byte) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	seen := map[string]bool{}
	for _, name := range l.roots {
		if len(files[name]) == 0 {
			continue
		}
		certs, err := parseCertificates(files[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, c := range certs {
			if !seen[string(c.Raw)] {
				seen[string(c.Raw)] = true
				roots = append(roots, c)
			}
		}
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s: %w", strings.Join(l.roots, " or "), errors.New("holds no certificate"))
	}
	return roots, nil
}
