// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// listOf makes a revocation list in PEM, signed by an authority.
func listOf(t testing.TB, by *Signer, serials ...*big.Int) []byte {
	t.Helper()
	return listBy(t, by.cert, by.key, time.Now(), serials...)
}

func listBy(t testing.TB, by *x509.Certificate, key crypto.Signer, at time.Time, serials ...*big.Int) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at, NextUpdate: at.Add(time.Hour)}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: at})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, by, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// deltaOf makes a list of what changed since another.
func deltaOf(t testing.TB, by *Signer, serials ...*big.Int) []byte {
	t.Helper()
	number, err := asn1.Marshal(1)
	if err != nil {
		t.Fatal(err)
	}
	return oddListOf(t, by, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: number}, 0, serials...)
}

// takingOffBy makes a list that takes certificates off an earlier one, though it is whole.
func takingOffBy(t testing.TB, by *Signer, serials ...*big.Int) []byte {
	t.Helper()
	return oddListOf(t, by, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}, 8, serials...)
}

// partOf makes a list of one distribution point, whose entries have a reason.
func partOf(t testing.TB, by *Signer, point string, reason int, serials ...*big.Int) []byte {
	t.Helper()
	return oddListOf(t, by, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte(point)}, reason, serials...)
}

func oddListOf(t testing.TB, by *Signer, extension pkix.Extension, reason int, serials ...*big.Int) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(2), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: []pkix.Extension{extension}}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now(), ReasonCode: reason})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// derIn is what a file in PEM holds, whatever it is.
func derIn(t testing.TB, file []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(file)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}

// derOf is what a file of lists holds.
func derOf(t testing.TB, files ...[]byte) [][]byte {
	t.Helper()
	lists := ReadOtherLists(bytes.Join(files, nil), nil, nil)
	if lists.Refused != nil {
		t.Fatal(lists.Refused)
	}
	return lists.DER
}

func signsLists(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }

// A list that cannot be used says so, and harms neither the authority nor other lists.
func TestRevocationsOfAnAuthority(t *testing.T) {
	own, files := selfSigned(t)
	other, _ := selfSigned(t)
	good, before := listOf(t, own, big.NewInt(7)), derOf(t, listBy(t, own.cert, own.key, time.Now().Add(-time.Minute), big.NewInt(6)))
	broken := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("no list")})
	for _, tc := range []struct {
		name string
		data []byte
		want int    // lists of the file
		text string // of the error
	}{
		{"none", nil, 0, ""},
		{"one", good, 1, ""},
		{"two", append(listOf(t, own), good...), 2, ""},
		{"another authority's", listOf(t, other, big.NewInt(7)), 0, "not signed by this authority"},
		{"another authority's, and a good one", slices.Concat(listOf(t, other, big.NewInt(7)), good), 1, "list 1: "},
		{"one that cannot be read, and a good one", slices.Concat(good, broken), 1, "list 2: "},
		{"one that is no PEM, and a good one", slices.Concat(bytes.Replace(good, []byte("\n"), []byte("\n!"), 1), good), 1, "not PEM"},
		{"what changed since another, and a good one", slices.Concat(deltaOf(t, own, big.NewInt(7)), good), 1, "list 1: the list of "},
		{"what changed since another", deltaOf(t, own, big.NewInt(7)), 0, "a delta list"},
		{"one that takes certificates off", slices.Concat(good, takingOffBy(t, own, big.NewInt(7))), 1, "takes certificate 7 off"},
		{"of the authority itself", slices.Concat(good, listOf(t, own, own.cert.SerialNumber)), 1, "revokes the issuing certificate"},
		{"a certificate", files[CertKey], 0, "holds a CERTIFICATE"},
		{"text", []byte("none"), 0, "not PEM"},
		{"too many", bytes.Repeat(listOf(t, own), maxLists+1), 0, "more than"},
		{"too long", make([]byte, maxListsBytes+1), 0, "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			with := maps.Clone(files)
			with[RevokedKey] = tc.data
			s, err := NewSigner(with)
			if err != nil {
				t.Fatalf("the authority is refused: %v", err)
			}
			s, err = s.Revoking(tc.data, nil, nil)
			if (err == nil) != (tc.text == "") || err != nil && (!strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), RevokedKey)) {
				t.Errorf("%v, want something about %q in %s", err, tc.text, RevokedKey)
			}
			if got := len(s.RevokedDER()); got != tc.want {
				t.Errorf("%d lists count, want %d", got, tc.want)
			}
			if _, err := s.Sign(cart, request(t, newKey(t), x509.CertificateRequest{}), time.Hour); err != nil {
				t.Error(err)
			}
		})
	}

	// What counted before goes with the file that takes its place, and not by a mistake in that.
	for _, tc := range []struct {
		name string
		data []byte
		want [][]byte
	}{
		{"no file", nil, nil},
		{"a good one", listBy(t, own.cert, own.key, time.Now().Add(-time.Minute)), nil},
		{"text", []byte("none"), before},
		{"another authority's", listOf(t, other), before},
		{"a later edition, and another authority's", slices.Concat(good, listOf(t, other)), nil},
		{"an earlier edition, and another authority's", slices.Concat(listBy(t, own.cert, own.key, time.Now().Add(-time.Hour)), listOf(t, other)), before},
	} {
		s, _ := own.Revoking(tc.data, nil, before)
		if got := slices.ContainsFunc(s.RevokedDER(), func(l []byte) bool { return bytes.Equal(l, before[0]) }); got != (tc.want != nil) {
			t.Errorf("%s: what counted before does: %t", tc.name, got)
		}
	}
}

// An intermediate is renewed with a new key: the list that the old one signed is still in the file.
func TestRevocationsOutliveTheKeyThatSignedThem(t *testing.T) {
	root := newAuthority(t, "root", nil, signsLists)
	first := newAuthority(t, "issuer", root, signsLists)
	second := newAuthority(t, "issuer", root, func(c *x509.Certificate) { signsLists(c); c.SerialNumber = big.NewInt(2) })
	file := listBy(t, first.cert, first.key, time.Now(), big.NewInt(7))
	files := plugged(t, root, second)
	s, err := NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := s.Revoking(file, nil, nil); err == nil || len(s.RevokedDER()) != 0 {
		t.Errorf("nobody here signed it: %v", err)
	}
	if s, err := s.Revoking(file, nil, derOf(t, file)); err != nil || len(s.RevokedDER()) != 1 {
		t.Errorf("it counted before: %v", err)
	}
	files[ChainKey] = slices.Concat(first.pem(), root.pem())
	if s, err = NewSigner(files); err != nil {
		t.Fatal(err)
	}
	s, err = s.Revoking(file, nil, nil)
	if err != nil || len(s.RevokedDER()) != 1 {
		t.Errorf("its signer is above: %v", err)
	}
	if got := s.RevokedBelow(root.cert); len(got) != 1 {
		t.Errorf("%d lists are below the root", len(got))
	}
	if got := s.RevokedBelow(newAuthority(t, "root", nil, nil).cert); len(got) != 0 {
		t.Errorf("%d lists are below another root of that name", len(got))
	}
	if chain, err := s.Sign(cart, request(t, newKey(t), x509.CertificateRequest{}), time.Hour); err != nil || len(chain) != 3 {
		t.Errorf("a leaf has a chain of %d (%v): the former issuer leads nowhere", len(chain), err)
	}
}

// A list stays its root's when the certificate of who signed it has ended.
func TestRevocationsOutliveTheCertificateOfWhoSignedThem(t *testing.T) {
	root := newAuthority(t, "root", nil, signsLists)
	former := newAuthority(t, "former", root, func(c *x509.Certificate) { signsLists(c); c.NotAfter = time.Now().Add(-time.Minute) })
	below := newAuthority(t, "below", former, signsLists)
	files := plugged(t, root, newAuthority(t, "issuer", root, nil))
	files[ChainKey] = slices.Concat(former.pem(), below.pem(), root.pem())
	s, err := NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []*authority{former, below} {
		list := listBy(t, by.cert, by.key, time.Now(), big.NewInt(7))
		with, err := s.Revoking(list, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := with.RevokedBelow(root.cert); !reflect.DeepEqual(got, derOf(t, list)) {
			t.Errorf("%d lists of %s are below the root", len(got), by.cert.Subject)
		}
		if got := with.RevokedBelow(newAuthority(t, "root", nil, nil).cert); len(got) != 0 {
			t.Errorf("%d lists of %s are below another root of that name", len(got), by.cert.Subject)
		}
	}
}

// Whoever made the authority may have forgotten that it signs lists, too. The error is how an operator learns of it.
func TestRevocationsOfWhoMaySignNone(t *testing.T) {
	root := newAuthority(t, "root", nil, nil)
	issuer := newAuthority(t, "issuer", root, nil)
	s, err := NewSigner(plugged(t, root, issuer))
	if err != nil {
		t.Fatal(err)
	}
	may := *issuer.cert // as somebody says who makes a list
	may.KeyUsage |= x509.KeyUsageCRLSign
	if _, err := s.Revoking(listBy(t, &may, issuer.key, time.Now()), nil, nil); err == nil || !strings.Contains(err.Error(), "cRLSign") {
		t.Errorf("the error is %v", err)
	}
}

// A root that was made anew so that it may sign lists is there beside its former certificate. Whoever heeds a list asks for the key alone, so that one which revokes the issuing certificate must not be told, whichever of the two that is taken to be below.
func TestRevocationsOfTheAuthorityByARootMadeAnew(t *testing.T) {
	former := newAuthority(t, "root", nil, nil)
	anew := &authority{madeAnew(t, former.cert, former.key, x509.KeyUsageCertSign|x509.KeyUsageCRLSign), former.key}
	issuer := newAuthority(t, "issuer", former, nil)
	for _, roots := range [][]byte{slices.Concat(former.pem(), anew.pem()), slices.Concat(anew.pem(), former.pem())} {
		files := plugged(t, former, issuer)
		files[RootKey] = roots
		s, err := NewSigner(files)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Revoking(listBy(t, anew.cert, anew.key, time.Now(), big.NewInt(7)), nil, nil); err != nil {
			t.Errorf("a list of the root is refused: %v", err)
		}
		if _, err := s.Revoking(listBy(t, anew.cert, anew.key, time.Now(), issuer.cert.SerialNumber), nil, nil); err == nil || !strings.Contains(err.Error(), "revokes the issuing certificate") {
			t.Errorf("one that revokes the issuer: %v", err)
		}
		if _, err := s.Revoking(listBy(t, anew.cert, anew.key, time.Now(), former.cert.SerialNumber), nil, nil); err != nil {
			t.Errorf("one that revokes the former certificate is refused: %v", err)
		}
		if _, err := s.Revoking(listBy(t, anew.cert, anew.key, time.Now(), former.cert.SerialNumber, anew.cert.SerialNumber), nil, nil); err == nil {
			t.Error("one that revokes both is not refused")
		}
	}
}

// Versions of ours that did not look took lists that are not whole. What they revoke does not come back by the upgrade, but by what the operator is told to do.
func TestRevocationsThatAreNotWholeAndCountedBefore(t *testing.T) {
	own, _ := selfSigned(t)
	good := listOf(t, own, big.NewInt(6))
	for _, odd := range [][]byte{deltaOf(t, own, big.NewInt(7)), takingOffBy(t, own, big.NewInt(7))} {
		der := derIn(t, odd)
		s, err := own.Revoking(slices.Concat(good, odd), nil, [][]byte{der})
		if err == nil || !strings.Contains(err.Error(), "as it did before") || !holds(s.RevokedDER(), der) {
			t.Errorf("while it is in the file: %v", err)
		}
		s, err = own.Revoking(good, nil, s.RevokedDER())
		if err != nil || !reflect.DeepEqual(s.RevokedDER(), derOf(t, good)) {
			t.Errorf("after it went: %d lists count (%v)", len(s.RevokedDER()), err)
		}
	}
}

// The lists of a root that is kept count whatever the file says, until it says something later.
func TestRevocationsOfKeptRoots(t *testing.T) {
	own, _ := selfSigned(t)
	old, _ := selfSigned(t)
	at := time.Now()
	theirs := listBy(t, old.cert, old.key, at, big.NewInt(7))
	later := listBy(t, old.cert, old.key, at.Add(time.Minute))
	kept := own.Keeping([]*x509.Certificate{old.cert})
	for name, tc := range map[string]struct {
		file []byte
		want [][]byte
	}{
		"no file":         {nil, derOf(t, theirs)},
		"of the new root": {listOf(t, own), nil},
		"the same":        {theirs, derOf(t, theirs)},
		"a later one":     {later, derOf(t, later)},
	} {
		if tc.want == nil {
			tc.want = derOf(t, tc.file, theirs)
		}
		s, err := kept.Revoking(tc.file, derOf(t, theirs), nil)
		if err != nil || !reflect.DeepEqual(s.RevokedDER(), tc.want) {
			t.Errorf("%s: %d lists count, want %d (%v)", name, len(s.RevokedDER()), len(tc.want), err)
		}
	}
}

// What is kept of before is bounded by what proxies take.
func TestRevocationsThatAreTooMany(t *testing.T) {
	own, _ := selfSigned(t)
	other, _ := selfSigned(t)
	var before [][]byte
	for i := range mesh.MaxLists {
		before = append(before, derOf(t, listOf(t, other, big.NewInt(int64(i))))...)
	}
	s, err := own.Revoking(slices.Concat(listOf(t, own), listOf(t, other)), nil, before)
	if err == nil || !strings.Contains(err.Error(), "too many") || len(s.RevokedDER()) != mesh.MaxLists {
		t.Errorf("%d lists count: %v", len(s.RevokedDER()), err)
	}
}

// Operators write these files, and those of other trust domains are of people whom we know less.
func FuzzReadRevocations(f *testing.F) {
	own, _ := selfSigned(f)
	list := listOf(f, own, big.NewInt(7))
	before := derOf(f, list)
	f.Add(list)
	f.Add(deltaOf(f, own, big.NewInt(7)))
	f.Fuzz(func(t *testing.T, data []byte) {
		lists := ReadOtherLists(data, nil, nil)
		if len(lists.DER) > maxLists || lists.Unknown && lists.Refused == nil {
			t.Fatalf("%d lists, unknown: %t, %v", len(lists.DER), lists.Unknown, lists.Refused)
		}
		if again := ReadOtherLists(data, before, nil); len(again.DER) < len(lists.DER) || lists.Refused == nil && len(again.DER) > len(lists.DER) {
			t.Fatalf("%d lists count with what was before, and %d without: %v", len(again.DER), len(lists.DER), lists.Refused)
		}
		if s, err := own.Revoking(data, nil, nil); err == nil && len(s.RevokedDER()) > len(lists.DER) {
			t.Fatalf("%d of %d lists count", len(s.RevokedDER()), len(lists.DER))
		}
	})
}
