// SPDX-License-Identifier: Apache-2.0

package backendtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// verify checks the chain of an endpoint's certificate, and that it is for the name that was asked for or, if there are any, for one of the others.
func (s *Settings) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the endpoint shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: s.roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if len(s.from.SANs) == 0 {
		options.DNSName = s.from.ServerName
	}
	if _, err := leaf.Verify(options); err != nil {
		return err
	}
	if len(s.from.SANs) == 0 {
		return nil
	}
	for _, n := range s.from.SANs {
		if has(leaf, n) {
			return nil
		}
	}
	return fmt.Errorf("the endpoint's certificate has none of the subjectAltNames of the policy, but %s", namesOf(leaf))
}

// has says whether a certificate is for a name: a URI as it is written, or a hostname by the rules of any client. One with a wildcard is any name that has
// one label in its place, and the same wildcard.
func has(leaf *x509.Certificate, n mesh.SubjectAltName) bool {
	if n.URI {
		for _, u := range leaf.URIs {
			if sameURI(u, n.Value) {
				return true
			}
		}
		return false
	}
	suffix, wild := strings.CutPrefix(n.Value, "*.")
	if !wild {
		return leaf.VerifyHostname(n.Value) == nil
	}
	for _, d := range leaf.DNSNames {
		if label, rest, ok := strings.Cut(d, "."); ok && label != "" && strings.EqualFold(rest, suffix) {
			return true
		}
	}
	return false
}

// sameURI compares as SPIFFE does: scheme and host in any case, the rest as it is (RFC 3986, 6.2.2.1).
func sameURI(u *url.URL, want string) bool {
	if u.String() == want {
		return true
	}
	w, err := url.Parse(want)
	if err != nil {
		return false
	}
	a, b := *u, *w
	a.Scheme, a.Host, b.Scheme, b.Host = strings.ToLower(a.Scheme), strings.ToLower(a.Host), strings.ToLower(b.Scheme), strings.ToLower(b.Host)
	return a.String() == b.String()
}

// maxNamesTold bounds how many names of a certificate a message has: a backend may show any number.
const maxNamesTold = 8

func namesOf(leaf *x509.Certificate) string {
	names := make([]string, 0, maxNamesTold)
	add := func(n string) {
		if len(names) < maxNamesTold {
			names = append(names, fmt.Sprintf("%.253q", n))
		}
	}
	for _, d := range leaf.DNSNames {
		add(d)
	}
	for _, u := range leaf.URIs {
		add(u.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}
