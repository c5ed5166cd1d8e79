// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// DefaultLifetime is a leaf's lifetime when the request asks for none.
	DefaultLifetime = 24 * time.Hour
	// MaxLifetime is the longest lifetime of a leaf, whatever is asked for or set (the figure of istiod, discovery.md part 5).
	MaxLifetime = 90 * 24 * time.Hour
	// backdate is how far before now a certificate begins, for peers whose clocks are behind.
	backdate = 2 * time.Minute
)

// Signer issues certificates. It is immutable and safe for concurrent use.
type Signer struct {
	cert     *x509.Certificate
	key      crypto.Signer
	way      []*x509.Certificate // from the issuer to the root that vouches for what is issued; the issuer alone if it is that root
	chain    []*x509.Certificate // what follows a leaf: way without the root, and what leads to other roots
	here     []*x509.Certificate // all that came with the signer
	roots    []*x509.Certificate
	rootPEM  string
	revoked  []revocation
	notAfter time.Time // the earliest end in way
	now      func() time.Time
}

// NewSigner reads the cacerts layout, or that of cert-manager. It is an error if the key does not fit the certificate, if that may not sign, has
// ended, does not lead to one of the roots, or issues what nobody who holds the roots would take; the error names the key of files that is wrong.
// Revocation lists are not read: see Revoking.
func NewSigner(files map[string][]byte) (*Signer, error) { return newSigner(files, time.Now) }

func newSigner(files map[string][]byte, now func() time.Time) (*Signer, error) {
	s, l := &Signer{now: now}, layoutOf(files)
	certs, err := parseCertificates(files[l.cert])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.cert, err)
	}
	s.cert = certs[0]
	if s.key, err = parseKey(files[l.key]); err != nil {
		return nil, fmt.Errorf("%s: %w", l.key, err)
	}
	if s.roots, err = l.readRoots(files); err != nil {
		return nil, err
	}
	above := slices.Clone(certs[1:])
	if l.chain != "" && len(files[l.chain]) > 0 {
		more, err := parseCertificates(files[l.chain])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.chain, err)
		}
		above = append(above, more...)
	}
	if !equalKeys(s.cert.PublicKey, s.key.Public()) {
		return nil, fmt.Errorf("%s: key is not that of %s", l.key, l.cert)
	}
	if !s.cert.BasicConstraintsValid || !s.cert.IsCA || s.cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("%s: certificate may not sign others", l.cert)
	}
	s.here = slices.Concat(certs[:1], above, s.roots)
	chains, err := s.findChains(above)
	if err != nil {
		return nil, fmt.Errorf("%s: certificate does not lead to a root of %s: %w", l.cert, strings.Join(l.roots, " or "), err)
	}
	if err := s.choose(chains); err != nil {
		return nil, fmt.Errorf("%s: what the certificate signs is not accepted by who holds the roots of %s: %w", l.cert, strings.Join(l.roots, " or "), err)
	}
	for _, root := range s.roots {
		s.rootPEM += encodeCertificate(root.Raw)
	}
	return s, nil
}

// findChains verifies the issuer and gives the ways to its roots. A root that two others have signed, as while one takes over from another, leads up several, and so does an issuer that two have signed.
func (s *Signer) findChains(above []*x509.Certificate) (all [][]*x509.Certificate, failed error) {
	intermediates := x509.NewCertPool()
	for _, c := range above {
		intermediates.AddCert(c)
	}
	for _, c := range s.namesakes(s.cert) {
		chains, err := s.climb(c, s.Roots(), intermediates)
		all = append(all, chains...)
		failed = cmp.Or(failed, err) // of the issuing certificate itself, if that fails
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, failed
}

// namesakes are a certificate, first, and others that came with the signer and have its name and key: what one signed, all did.
func (s *Signer) namesakes(of *x509.Certificate) []*x509.Certificate {
	all := []*x509.Certificate{of}
	for _, c := range s.here {
		if bytes.Equal(c.RawSubject, of.RawSubject) && equalKeys(c.PublicKey, of.PublicKey) && !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	return all
}

// climb gives the ways from a certificate to roots.
func (s *Signer) climb(from *x509.Certificate, roots, intermediates *x509.CertPool) ([][]*x509.Certificate, error) {
	return from.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
}

// endsFirst is the certificate of a chain that ends first.
func endsFirst(chain []*x509.Certificate) *x509.Certificate {
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
}

// EndsFirst is the issuing certificate, or the one above it that ends before it: nothing is issued beyond its end.
func (s *Signer) EndsFirst() *x509.Certificate {
	return endsFirst(s.way)
}

// Accepts says whether peers that hold this signer's roots take what another signer issues.
func (s *Signer) Accepts(other *Signer) bool {
	intermediates := x509.NewCertPool()
	for _, c := range other.chain {
		intermediates.AddCert(c)
	}
	return slices.ContainsFunc(append(slices.Clone(other.chain), other.cert), func(c *x509.Certificate) bool {
		if !bytes.Equal(c.RawSubject, other.cert.RawSubject) || !equalKeys(c.PublicKey, other.cert.PublicKey) {
			return false
		}
		_, err := s.climb(c, s.Roots(), intermediates)
		return err == nil
	})
}

// RootPEM is every root that peers shall trust, in PEM.
func (s *Signer) RootPEM() string { return s.rootPEM }

// NotAfter is when the signer's own certificate, or one above it, ends.
func (s *Signer) NotAfter() time.Time { return s.notAfter }

// Roots are the roots as a pool of the caller's own.
func (s *Signer) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, root := range s.roots {
		pool.AddCert(root)
	}
	return pool
}

// Sign issues a certificate for id and the key that csrPEM proves, for lifetime (0: DefaultLifetime), which is cut to
// MaxLifetime and to the issuer's own end. The answer is the leaf, the intermediates one by one, and all roots as the
// last element. A request that cannot be accepted gives a *RequestError.
func (s *Signer) Sign(id mesh.Identity, csrPEM []byte, lifetime time.Duration) ([]string, error) {
	key, err := readRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	name, err := url.Parse(id.String())
	if err != nil || id.IsZero() {
		return nil, fmt.Errorf("identity %q cannot be certified", id)
	}
	leaf, err := s.issue(&x509.Certificate{
		// No subject, so that the subject alternative name is critical (RFC 5280 §4.2.1.6, SPIFFE X509-SVID §4.1).
		URIs:        []*url.URL{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, key, lifetime)
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", id, err)
	}
	answer := []string{encodeCertificate(leaf)}
	for _, c := range s.chain {
		answer = append(answer, encodeCertificate(c.Raw))
	}
	return append(answer, s.rootPEM), nil
}

// errIssuerEnded means that there is nothing left of the issuer's own time.
var errIssuerEnded = errors.New("the issuing certificate has ended")

// issue completes a template and signs it.
func (s *Signer) issue(template *x509.Certificate, key crypto.PublicKey, lifetime time.Duration) ([]byte, error) {
	now := s.now()
	template.NotBefore = now.Add(-backdate)
	template.NotAfter = s.end(lifetime)
	if !template.NotAfter.After(now) {
		return nil, errIssuerEnded
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, s.cert, key, s.key) // a nil serial number makes it random
}

// end is when a certificate ends that is issued now.
func (s *Signer) end(lifetime time.Duration) time.Time {
	if lifetime <= 0 {
		lifetime = DefaultLifetime
	}
	if end := s.now().Add(min(lifetime, MaxLifetime)); end.Before(s.notAfter) {
		return end
	}
	return s.notAfter
}

func encodeCertificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
