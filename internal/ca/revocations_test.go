// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"
)

// listOf makes a revocation list in PEM, signed by an authority.
func listOf(t testing.TB, by *Signer, serials ...*big.Int) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func TestRevocationsOfAnAuthority(t *testing.T) {
	own, files := selfSigned(t)
	other, _ := selfSigned(t)
	for _, tc := range []struct {
		name string
		data []byte
		want int    // lists
		text string // of the error
	}{
		{"none", nil, 0, ""},
		{"one", listOf(t, own, big.NewInt(7)), 1, ""},
		{"two", append(listOf(t, own), listOf(t, own, big.NewInt(7))...), 2, ""},
		{"another authority's", listOf(t, other, big.NewInt(7)), 0, "not signed by this authority"},
		{"of the authority itself", listOf(t, own, own.cert.SerialNumber), 0, "revokes the issuing certificate"},
		{"a certificate", files[CertKey], 0, "holds a CERTIFICATE"},
		{"text", []byte("none"), 0, "not PEM"},
		{"too many", bytes.Repeat(listOf(t, own), maxLists+1), 0, "more than"},
		{"too long", make([]byte, maxListsBytes+1), 0, "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			with := maps.Clone(files)
			with[RevokedKey] = tc.data
			s, err := NewSigner(with)
			if tc.text != "" {
				if err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), RevokedKey) {
					t.Fatalf("%v, want something about %q in %s", err, tc.text, RevokedKey)
				}
				return
			}
			if err != nil || len(s.RevokedDER()) != tc.want {
				t.Fatalf("%v, want %d lists", err, tc.want)
			}
		})
	}
}

// Operators write these files, and those of other trust domains are of people whom we know less.
func FuzzReadRevocations(f *testing.F) {
	own, _ := selfSigned(f)
	f.Add(listOf(f, own, big.NewInt(7)))
	f.Fuzz(func(t *testing.T, data []byte) {
		lists, err := ReadRevocations(data, nil)
		if err == nil && len(lists) > maxLists {
			t.Fatalf("%d lists", len(lists))
		}
	})
}
