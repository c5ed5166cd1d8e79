// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// RevokedKey is where a Secret of the authority, or a ConfigMap with the roots of another trust domain, may hold revocation lists in PEM. The name is the usual one.
const RevokedKey = "ca-crl.pem"

const (
	// maxLists is how many revocation lists one file may hold.
	maxLists = 64
	// maxListsBytes is how long the file may be: what a Secret holds.
	maxListsBytes = 1 << 20
	// listBlock is what a list is called in PEM.
	listBlock = "X509 CRL"
)

// readLists gives what a file in PEM says are lists, and nothing if it says anything else. With an error about one that is damaged come the others.
func readLists(data []byte) ([][]byte, error) {
	if len(data) > maxListsBytes {
		return nil, fmt.Errorf("has %d bytes, at most %d are accepted", len(data), maxListsBytes)
	}
	lists, err := readBlocks(data, listBlock, maxLists, func(der []byte) ([]byte, error) { return der, nil })
	// What is not quite PEM is skipped by who decodes it, if something follows that is.
	if marked := max(bytes.Count(data, []byte("-----BEGIN ")), bytes.Count(data, []byte("-----END "))); err == nil && marked > len(lists) {
		err = fmt.Errorf("holds %d lists that are not PEM", marked-len(lists))
	}
	return lists, err
}

// revocation is a list that counts.
type revocation struct {
	list *x509.RevocationList
	by   *x509.Certificate // who signed it; nil if it was believed before and its signer is not here any more
}

// Revoking is the signer with the revocation lists of its file, and why some of them do not count: each must be whole, be signed by a certificate that came with the signer, or have counted before, and must
// not revoke what the signer issues by. The signer is of use in any case.
//
// stay are lists of roots that are kept. They count whatever the file says, but for those of which it holds a later edition. If something of the file does not count, those
// before do as well, for what was revoked must not come back by a mistake.
func (s *Signer) Revoking(file []byte, stay, before [][]byte) (*Signer, error) {
	with := *s
	with.revoked = nil
	blocks, err := readLists(file)
	refused := []error{err}
	for i, der := range blocks {
		known := holds(stay, der) || holds(before, der)
		r, err := s.believe(der, known)
		if err == nil {
			if err = whole(r.list); err != nil && known { // a version of ours that did not look took it
				refused, err = append(refused, fmt.Errorf("list %d, which counts as it did before: %w", i+1, err)), nil
			}
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("list %d: %w", i+1, err))
			continue
		}
		if err := with.revoke(r); err != nil {
			refused = append(refused, err)
		}
	}
	if errors.Join(refused...) != nil {
		stay = slices.Concat(stay, before)
	}
	fresh := with.revoked
	for _, der := range stay {
		if holds(blocks, der) {
			continue // that was judged
		}
		r, err := s.believe(der, true)
		if err == nil && !slices.ContainsFunc(fresh, func(f revocation) bool { return f.follows(r.list) }) {
			err = with.revoke(r)
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("a list that counted before: %w", err))
		}
	}
	if err := errors.Join(refused...); err != nil {
		return &with, fmt.Errorf("%s: %w", RevokedKey, err)
	}
	return &with, nil
}

func holds(lists [][]byte, der []byte) bool {
	return slices.ContainsFunc(lists, func(l []byte) bool { return bytes.Equal(l, der) })
}

// revoke has a list count, if proxies take so many.
func (s *Signer) revoke(r revocation) error {
	size := len(r.list.Raw)
	for _, other := range s.revoked {
		if bytes.Equal(other.list.Raw, r.list.Raw) {
			return nil
		}
		size += len(other.list.Raw)
	}
	if len(s.revoked) == mesh.MaxLists || size > mesh.MaxListBytes {
		return fmt.Errorf("a list of %q is one too many: proxies take %d, and %d bytes", r.list.Issuer, mesh.MaxLists, mesh.MaxListBytes)
	}
	s.revoked = append(s.revoked, r)
	return nil
}

// believe reads a list, which may be known to be believable.
func (s *Signer) believe(der []byte, known bool) (revocation, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return revocation{}, err
	}
	by, err := s.signerOf(list)
	if err != nil && !known {
		return revocation{}, err
	}
	for i, c := range s.way {
		if !bytes.Equal(c.RawIssuer, list.RawIssuer) || signedWith(list, s.way[min(i+1, len(s.way)-1)]) != nil {
			continue
		}
		if revokes(list, c) && !s.replaced(list, c) {
			return revocation{}, fmt.Errorf("the list of %q revokes the issuing certificate, or one above it: %x of %q", list.Issuer, c.SerialNumber, c.Subject)
		}
	}
	return revocation{list, by}, nil
}

// revokes says whether a list names a certificate of its issuer's.
func revokes(list *x509.RevocationList, c *x509.Certificate) bool {
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return c.SerialNumber.Cmp(e.SerialNumber) == 0 })
}

// replaced says whether a certificate that a list revokes is that of a root which has another one, with the same name and key, that it does not: peers have all roots, and one way is enough for them.
func (s *Signer) replaced(list *x509.RevocationList, c *x509.Certificate) bool {
	return slices.ContainsFunc(s.roots, c.Equal) && slices.ContainsFunc(s.roots, func(other *x509.Certificate) bool {
		return bytes.Equal(other.RawSubject, c.RawSubject) && bytes.Equal(other.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) && !revokes(list, other)
	})
}

// signerOf finds who signed a list, of all certificates that came with the signer: a list outlives the key that signed it, so that it may be by one that issues no more.
func (s *Signer) signerOf(list *x509.RevocationList) (*x509.Certificate, error) {
	failed := errors.New("no certificate here has that name")
	for _, c := range s.here {
		if !bytes.Equal(c.RawSubject, list.RawIssuer) {
			continue
		}
		err := list.CheckSignatureFrom(c)
		switch {
		case err == nil:
			return c, nil
		case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCRLSign == 0:
			err = fmt.Errorf("certificate %x may not sign lists, as its keyUsage has no cRLSign", c.SerialNumber)
		}
		failed = err
	}
	return nil, fmt.Errorf("the list of %q is not signed by this authority: %w", list.Issuer, failed)
}

// signedWith gives an error unless the key of a certificate has signed a list, which is all that those ask who heed it: an authority may have another certificate of that key that may sign lists.
func signedWith(list *x509.RevocationList, by *x509.Certificate) error {
	return by.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature)
}

// follows says whether a list is a later edition of another.
func (r revocation) follows(other *x509.RevocationList) bool {
	if r.by == nil || !bytes.Equal(r.list.RawIssuer, other.RawIssuer) || other.CheckSignatureFrom(r.by) != nil {
		return false
	}
	return isLater(r.list, other)
}

// isLater says whether a list is the later one of two of an issuer, and about the same part. Of two of the same second neither is: a second is what a list tells of time.
func isLater(list, other *x509.RevocationList) bool {
	return part(list) == part(other) && list.ThisUpdate.After(other.ThisUpdate)
}

// What sets a list apart from one of all certificates of its issuer: that it says what changed since another list, or is one distribution point's (RFC 5280, sections 5.2.4 and 5.2.5).
var (
	oidDelta             = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// removeFromList is the reason of an entry that takes a certificate off an earlier list (RFC 5280, section 5.3.1).
const removeFromList = 8

// part is what a list is about that is not about all certificates of its issuer.
func part(list *x509.RevocationList) string { return extensions(list, oidDelta, oidDistributionPoint) }

// extensions are the values of some of a list's extensions.
func extensions(list *x509.RevocationList, of ...asn1.ObjectIdentifier) string {
	var out []byte
	for _, e := range list.Extensions {
		if slices.ContainsFunc(of, e.Id.Equal) {
			out = append(out, e.Value...)
		}
	}
	return string(out)
}

// whole gives an error for a list that says only what changed since another one: who makes such lists makes whole ones, too, and a whole one alone is as good as both. Nor may a whole one take a certificate off: it
// would not have it.
func whole(list *x509.RevocationList) error {
	if slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidDelta) }) {
		return fmt.Errorf("the list of %q says only what changed since another one (a delta list, RFC 5280, section 5.2.4): bring the whole list", list.Issuer)
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.ReasonCode == removeFromList {
			return fmt.Errorf("the list of %q takes certificate %x off an earlier list (removeFromCRL), which a whole list may not (RFC 5280, section 5.3.1)", list.Issuer, e.SerialNumber)
		}
	}
	return nil
}

// RevokedDER is every revocation list that counts, in DER.
func (s *Signer) RevokedDER() [][]byte {
	var out [][]byte
	for _, r := range s.revoked {
		out = append(out, r.list.Raw)
	}
	return out
}

// RevokedPEM is that in PEM: a file with all of it.
func (s *Signer) RevokedPEM() []byte {
	var out []byte
	for _, der := range s.RevokedDER() {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: listBlock, Bytes: der})...)
	}
	return out
}

// RevokedBelow are the lists that count and whose signer, which came with the authority, leads to a root, in DER. Who leads there is told by signatures alone, whether certificates have ended or not: a list outlives
// the certificate of who signed it, and by that of a namesake with the same key, which lasts longer and is not here, what it revokes may be in use.
func (s *Signer) RevokedBelow(root *x509.Certificate) [][]byte {
	var out [][]byte
	for _, r := range s.revoked {
		if r.by != nil && s.signedBelow(r.by, root) {
			out = append(out, r.list.Raw)
		}
	}
	return out
}

// signedBelow says whether signatures of what came with the signer lead from a certificate, or a namesake of it, to a root.
func (s *Signer) signedBelow(c, root *x509.Certificate) bool {
	reached := s.namesakes(c)
	for i := 0; i < len(reached); i++ {
		if from := reached[i]; from.Equal(root) || isSigned(from, root) {
			return true
		}
		for _, above := range s.here {
			if !slices.ContainsFunc(reached, above.Equal) && isSigned(reached[i], above) {
				reached = append(reached, above)
			}
		}
	}
	return false
}

func isSigned(c, by *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, by.RawSubject) && c.CheckSignatureFrom(by) == nil
}
