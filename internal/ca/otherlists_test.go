// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// scratched is a list in PEM of which the last byte, which is the signature's, is another.
func scratched(file []byte) []byte {
	block, _ := pem.Decode(file)
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}

// madeAnew is another certificate of a root, with its name and key, whose keyUsage is another one.
func madeAnew(t *testing.T, root *x509.Certificate, key crypto.Signer, usage x509.KeyUsage) *x509.Certificate {
	t.Helper()
	template := *root
	template.SerialNumber, template.KeyUsage = big.NewInt(2), usage
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A list of another trust domain that cannot be used costs only itself, and nobody who was revoked before is believed for it.
func TestListsOfOthers(t *testing.T) {
	a, _ := selfSigned(t)
	b, _ := selfSigned(t)
	at := time.Now()
	mute := newAuthority(t, "mute", nil, nil)
	may := *mute.cert
	signsLists(&may)
	muteList := listBy(t, &may, mute.key, at, big.NewInt(7))
	c, _ := selfSigned(t)
	twin, cList := madeAnew(t, c.cert, c.key, x509.KeyUsageCertSign), listBy(t, c.cert, c.key, at, big.NewInt(7))
	first, later := listBy(t, a.cert, a.key, at.Add(-time.Hour), big.NewInt(7)), listBy(t, a.cert, a.key, at)
	others := listBy(t, b.cert, b.key, at, big.NewInt(7))
	delta, off := deltaOf(t, a, big.NewInt(8)), takingOffBy(t, a, big.NewInt(7))
	broken := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("no list")})
	damaged := bytes.Replace(first, []byte("\n"), []byte("\n!"), 1) // is no base64
	partly, offPartly := partOf(t, a, "http://a", 0, big.NewInt(7)), partOf(t, a, "http://b", removeFromList, big.NewInt(8))
	same := listBy(t, a.cert, a.key, at.Add(-time.Hour))
	for _, tc := range []struct {
		name    string
		file    []byte
		before  [][]byte
		want    [][]byte
		refused string // part of why; "" if all of the file counts
		unknown bool
	}{
		{"none", nil, nil, nil, "", false},
		{"none any more", nil, derOf(t, first), nil, "", false},
		{"two", slices.Concat(first, others), nil, derOf(t, first, others), "", false},
		{"one twice", slices.Concat(first, first), nil, derOf(t, first), "", false},
		{"another instead", others, derOf(t, first), derOf(t, others), "", false},
		{"one that cannot be read", slices.Concat(broken, others), nil, derOf(t, others), "list 1: ", true},
		{"one that cannot be read, and one before", slices.Concat(broken, others), derOf(t, first), derOf(t, others, first), "list 1: ", true},
		{"one that cannot be read, and a later edition", slices.Concat(broken, later), derOf(t, first, others), derOf(t, later, others), "list 1: ", true},
		{"one that cannot be read, and an earlier edition", slices.Concat(broken, first), derOf(t, later), derOf(t, first, later), "list 1: ", true},
		{"one that cannot be read, and another edition of the same time", slices.Concat(broken, same), derOf(t, first), derOf(t, same, first), "list 1: ", true},
		{"one that is no PEM, and one before", slices.Concat(damaged, others), derOf(t, first), derOf(t, others, first), "not PEM", true},
		{"one whose first line is none", slices.Concat(first[1:], others), derOf(t, first), derOf(t, others, first), "not PEM", true},
		{"one whose last line is none", slices.Concat(bytes.TrimRight(first, "-\n"), []byte("\n"), others), derOf(t, first), derOf(t, others, first), "not PEM", true},
		{"text", []byte("none"), derOf(t, first), derOf(t, first), "not PEM", true},
		{"what changed since another", slices.Concat(others, delta), nil, derOf(t, others), "list 2: the list of ", true},
		{"what changed since another, beside that", slices.Concat(first, delta), nil, derOf(t, first), "a delta list", false},
		{"what changed since another, after that", delta, derOf(t, first), derOf(t, first), "a delta list", true},
		{"one that takes certificates off", slices.Concat(off, first), nil, derOf(t, first), "list 1: the list of ", false},
		{"one that takes certificates off, of another part", slices.Concat(offPartly, partly), nil, derOf(t, partly), "list 1: the list of ", true},
		{"a later edition that is damaged", slices.Concat(scratched(later), others), derOf(t, first), derOf(t, others, first), "list 1: the list of ", true},
		{"one that is damaged, beside a good one", slices.Concat(scratched(later), first), nil, derOf(t, first), "not signed by the root", false},
		{"one by a root that may sign none", slices.Concat(muteList, others), derOf(t, first), derOf(t, muteList, others), "", false},
		{"one by a root of which another certificate may sign none", cList, nil, derOf(t, cList), "", false},
		{"one that is damaged, by a root that may sign none", slices.Concat(scratched(muteList), others), derOf(t, first), derOf(t, others, first), "not signed by the root", true},
		{"one that is damaged, by an authority that is not known", scratched(others), nil, derOf(t, scratched(others)), "", false},
	} {
		got := ReadOtherLists(tc.file, tc.before, [][]byte{a.cert.Raw, twin.Raw, c.cert.Raw, mute.cert.Raw})
		if !reflect.DeepEqual(got.DER, tc.want) || got.Unknown != tc.unknown {
			t.Errorf("%s: %d lists count, want %d (unknown: %t)", tc.name, len(got.DER), len(tc.want), got.Unknown)
		}
		if (got.Refused != nil) != (tc.refused != "") || got.Refused != nil && !strings.Contains(got.Refused.Error(), tc.refused) {
			t.Errorf("%s: %v, want something about %q", tc.name, got.Refused, tc.refused)
		}
	}
}
