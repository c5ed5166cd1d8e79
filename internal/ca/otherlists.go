// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// OtherLists are revocation lists of a trust domain that is not ours. Of those who sign there the roots alone are known here: signatures of others are left to who uses the lists.
type OtherLists struct {
	// DER are the lists that count.
	DER [][]byte
	// Refused is why some of the file do not; nil if all do. A list that does not count costs only itself, and what counted before counts beside the others then, but for lists of which the file holds a later edition.
	Refused error
	// Unknown says that nothing in the file tells whom a list revoked that does not count: not even its issuer is known, or the file has no other list of that issuer's about the same certificates.
	Unknown bool
}

// ReadOtherLists reads a file of lists in PEM. before are those that counted before, and roots the domain's, in DER.
func ReadOtherLists(file []byte, before, roots [][]byte) OtherLists {
	var out OtherLists
	var lists, half []*x509.RevocationList
	blocks, err := readLists(file)
	refused := []error{err}
	out.Unknown = err != nil
	for i, der := range blocks {
		list, err := x509.ParseRevocationList(der)
		if err == nil {
			err = cmp.Or(whole(list), forged(list, roots))
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("list %d: %w", i+1, err))
		}
		switch {
		case list == nil:
			out.Unknown = true
		case err != nil:
			half = append(half, list)
		case !holds(out.DER, list.Raw):
			lists, out.DER = append(lists, list), append(out.DER, list.Raw)
		}
	}
	for _, h := range half {
		if !slices.ContainsFunc(lists, func(l *x509.RevocationList) bool {
			return sameIssuer(l, h) && extensions(l, oidDistributionPoint) == extensions(h, oidDistributionPoint)
		}) {
			out.Unknown = true
		}
	}
	if out.Refused = errors.Join(refused...); out.Refused == nil {
		return out
	}
	out.DER = out.Beside(before)
	return out
}

// Beside are the lists that count with those of before of which none is a later edition.
func (o OtherLists) Beside(before [][]byte) [][]byte {
	var lists []*x509.RevocationList
	for _, der := range o.DER {
		if list, err := x509.ParseRevocationList(der); err == nil {
			lists = append(lists, list)
		}
	}
	all := o.DER
	for _, der := range before {
		list, err := x509.ParseRevocationList(der)
		if err == nil && !holds(all, der) && !slices.ContainsFunc(lists, func(l *x509.RevocationList) bool { return succeeds(l, list) }) {
			all = append(all, der)
		}
	}
	return all
}

// forged gives an error for a list that names one of the roots, and its key, as the one that signed it, which it has not: a file that was damaged on its way, say. Nobody would heed it, and as a later edition it would
// take the place of one that is heeded. The key is asked alone, as by those who heed lists.
func forged(list *x509.RevocationList, roots [][]byte) error {
	if len(list.AuthorityKeyId) == 0 {
		return nil // which key of that name is meant cannot be told (RFC 5280, section 5.2.1, demands it)
	}
	var unsigned error
	for _, der := range roots { // several may call their keys alike
		root, err := x509.ParseCertificate(der)
		if err != nil || !bytes.Equal(root.RawSubject, list.RawIssuer) || !bytes.Equal(root.SubjectKeyId, list.AuthorityKeyId) {
			continue
		}
		if err := signedWith(list, root); err != nil {
			unsigned = fmt.Errorf("the list of %q is not signed by the root of that name and key: %w", list.Issuer, err)
		} else {
			return nil
		}
	}
	return unsigned
}

// sameIssuer says whether two lists are of one issuer, by what they say: an authority may have two keys under one name.
func sameIssuer(a, b *x509.RevocationList) bool {
	return bytes.Equal(a.RawIssuer, b.RawIssuer) && bytes.Equal(a.AuthorityKeyId, b.AuthorityKeyId)
}

// succeeds says whether a list is a later edition of another, by what they say.
func succeeds(list, other *x509.RevocationList) bool {
	return sameIssuer(list, other) && isLater(list, other)
}
