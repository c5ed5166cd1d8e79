// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// revoke makes a list by which an authority revokes serial numbers.
func revoke(t *testing.T, by *authority, number int64, serials ...int64) *x509.RevocationList {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(-time.Hour)} // overdue, and counts
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func serial(n int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
}

// mayNotSignLists is another certificate of a root, whose keyUsage lacks cRLSign, as before it was made anew for that.
func mayNotSignLists(t *testing.T, root *authority) *x509.Certificate {
	t.Helper()
	template := *root.cert
	template.SerialNumber, template.KeyUsage = big.NewInt(2), x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, root.key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestRevocation(t *testing.T) {
	root := newAuthority(t, "root", nil)
	intermediate := newAuthority(t, "intermediate", root) // its serial number is 1
	namesake := newAuthority(t, "intermediate", root)
	stranger := newAuthority(t, "root", nil)
	twin := mayNotSignLists(t, root)
	for _, tc := range []struct {
		name  string
		by    *authority // of the peer's leaf, whose serial number is 7
		lists []*x509.RevocationList
		want  Reason
	}{
		{"no list", root, nil, ""},
		{"an empty list", root, []*x509.RevocationList{revoke(t, root, 1)}, ""},
		{"the leaf", root, []*x509.RevocationList{revoke(t, root, 1, 6, 7, 8)}, ReasonRevoked},
		{"another leaf", root, []*x509.RevocationList{revoke(t, root, 1, 6, 8)}, ""},
		{"the leaf, in the second of two lists", root, []*x509.RevocationList{revoke(t, root, 2), revoke(t, root, 1, 7)}, ReasonRevoked},
		{"the leaf's number, by the authority above its issuer", intermediate, []*x509.RevocationList{revoke(t, root, 1, 7)}, ""},
		{"the leaf, by its issuer below the root", intermediate, []*x509.RevocationList{revoke(t, intermediate, 1, 7)}, ReasonRevoked},
		{"the leaf's number, by another key of the issuer's name", intermediate, []*x509.RevocationList{revoke(t, namesake, 1, 7)}, ""},
		{"the issuer", intermediate, []*x509.RevocationList{revoke(t, root, 1, 1)}, ReasonRevoked},
		{"the leaf, by a stranger that calls itself as the root", root, []*x509.RevocationList{revoke(t, stranger, 1, 7)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewSource(root, SourceOptions{})
			defer s.Close()
			if err := s.SetBundle("cluster.local", []*x509.Certificate{root.cert, twin}, tc.lists); err != nil {
				t.Fatal(err)
			}
			_, _, err := shake(t, forge(t, tc.by, []string{cart.String()}, time.Hour, serial(7)), s.Server(till))
			check(t, "server", err, tc.want)
			err, _ = second(shake(t, s.Client(till, []mesh.Identity{cart}), forge(t, tc.by, []string{cart.String()}, time.Hour, serial(7))))
			check(t, "client", err, tc.want)
		})
	}
}

func second[A, B, C any](_ A, b B, c C) (B, C) { return b, c }
