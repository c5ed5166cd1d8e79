// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// rootsEnding are n roots in PEM, of one key, that end then.
func rootsEnding(t *testing.T, n int, ends time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for i := range n {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), NotBefore: ends.Add(-time.Hour), NotAfter: ends, IsCA: true, BasicConstraintsValid: true,
		}, &x509.Certificate{}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func givenBy(name, domain string, data map[string]string) corev1.ConfigMap {
	return corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{trustDomainLabel: domain}}, Data: data}
}

func TestChooseRoots(t *testing.T) {
	now := time.Now()
	good, ended := rootsEnding(t, 1, now.Add(time.Minute)), rootsEnding(t, 1, now.Add(-time.Minute))
	const most = 64 // of one file
	type chosen struct {
		roots  int    // by the ConfigMap
		reason string // part of why it is refused; "" if it is not
	}
	base := map[string]givenRoots{"alias.example": {domain: "alias.example", roots: make([][]byte, most)}}
	for i := range base["alias.example"].roots {
		base["alias.example"].roots[i] = []byte{byte(i)}
	}
	earlier := map[string]givenRoots{"a": {domain: "else.example", roots: [][]byte{{1}, {2}}}}
	for _, tc := range []struct {
		name string
		all  []corev1.ConfigMap
		want map[string]chosen
	}{
		{"of both keys, each once", []corev1.ConfigMap{givenBy("b", "else.example", map[string]string{rootCertKey: good, "ca.crt": good + rootsEnding(t, 1, now.Add(time.Hour))})},
			map[string]chosen{"b": {2, ""}}},
		{"nonsense, used before", []corev1.ConfigMap{givenBy("a", "else.example", map[string]string{"ca.crt": "nonsense"})}, map[string]chosen{"a": {2, "ca.crt"}}},
		{"nonsense, used for another domain before", []corev1.ConfigMap{givenBy("a", "third.example", map[string]string{"ca.crt": "nonsense"})}, map[string]chosen{"a": {0, "ca.crt"}}},
		{"our own", []corev1.ConfigMap{givenBy("b", "cluster.local", map[string]string{"ca.crt": good})}, map[string]chosen{"b": {0, "our own"}}},
		{"no domain", []corev1.ConfigMap{givenBy("b", "Else", map[string]string{"ca.crt": good})}, map[string]chosen{"b": {0, "not a trust domain"}}},
		{"empty", []corev1.ConfigMap{givenBy("b", "else.example", nil)}, map[string]chosen{"b": {0, "neither"}}},
		// A root that ended beside the one that follows it is how a rotation looks afterwards, and a controller that starts then has no "before".
		{"one ended", []corev1.ConfigMap{givenBy("b", "else.example", map[string]string{"ca.crt": ended + good})}, map[string]chosen{"b": {1, ""}}},
		{"those of the first key ended", []corev1.ConfigMap{givenBy("b", "else.example", map[string]string{rootCertKey: ended, "ca.crt": good})}, map[string]chosen{"b": {1, ""}}},
		{"those of the second key ended", []corev1.ConfigMap{givenBy("b", "else.example", map[string]string{rootCertKey: good, "ca.crt": ended})}, map[string]chosen{"b": {1, ""}}},
		{"those of both ended", []corev1.ConfigMap{givenBy("b", "else.example", map[string]string{rootCertKey: ended, "ca.crt": ended})}, map[string]chosen{"b": {0, "ended"}}},
		{"one ended, and the other is nonsense", []corev1.ConfigMap{givenBy("b", "else.example", map[string]string{rootCertKey: ended, "ca.crt": "nonsense"})}, map[string]chosen{"b": {0, "ca.crt"}}},
		{"all ended", []corev1.ConfigMap{givenBy("b", "else.example", map[string]string{"ca.crt": ended})}, map[string]chosen{"b": {0, "ended"}}},
		{"an alias, which has ours too", []corev1.ConfigMap{
			givenBy("b", "alias.example", map[string]string{"ca.crt": rootsEnding(t, mesh.MaxRoots-most, now.Add(time.Hour))}),
			givenBy("c", "alias.example", map[string]string{"ca.crt": good}),
		}, map[string]chosen{"b": {mesh.MaxRoots - most, ""}, "c": {0, "more than"}}},
		{"as many as proxies take, in two", []corev1.ConfigMap{
			givenBy("b", "else.example", map[string]string{"ca.crt": rootsEnding(t, most, now.Add(time.Hour))}),
			givenBy("c", "else.example", map[string]string{"ca.crt": rootsEnding(t, mesh.MaxRoots-most, now.Add(time.Hour))}),
		}, map[string]chosen{"b": {most, ""}, "c": {mesh.MaxRoots - most, ""}}},
		{"more than proxies take", []corev1.ConfigMap{
			givenBy("d", "third.example", map[string]string{"ca.crt": good}),
			givenBy("c", "else.example", map[string]string{"ca.crt": rootsEnding(t, most, now.Add(time.Hour))}),
			givenBy("e", "else.example", map[string]string{"ca.crt": good}),
			givenBy("b", "else.example", map[string]string{"ca.crt": rootsEnding(t, mesh.MaxRoots-most, now.Add(time.Hour))}),
		}, map[string]chosen{"b": {mesh.MaxRoots - most, ""}, "c": {most, ""}, "d": {1, ""}, "e": {0, "more than"}}},
	} {
		for range 2 { // whatever the order in which they are listed
			slices.Reverse(tc.all)
			given, refused := chooseRoots(tc.all, earlier, "cluster.local", base, now)
			for name, want := range tc.want {
				err := refused[name]
				if len(given[name].roots) != want.roots || (err != nil) != (want.reason != "") || err != nil && !strings.Contains(err.Error(), want.reason) {
					t.Errorf("%s: %s gives %d roots and %v, want %d and %q", tc.name, name, len(given[name].roots), err, want.roots, want.reason)
				}
			}
		}
	}
}

// TestListsOfAnotherTrustDomain: one that cannot be used costs only itself. What it cannot cost is that somebody is believed who was revoked, or may have been.
func TestListsOfAnotherTrustDomain(t *testing.T) {
	now := time.Now()
	files, other := selfSignedFiles(t), selfSignedFiles(t)
	list, der := listOf(t, files, 1)
	later, laterDER := listOf(t, files, 2)
	root, otherRoot := string(files[ca.RootKey]), string(other[ca.RootKey])
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("no list")}))
	scratched := slices.Clone(laterDER)
	scratched[len(scratched)-1] ^= 1 // the signature's last byte
	damaged := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: scratched}))
	var lastDER []byte
	editions := []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}}
	for number := range int64(mesh.MaxLists + 1) {
		var edition []byte
		edition, lastDER = listOf(t, files, 2+number)
		editions = append(editions, map[string]string{"ca.crt": "nonsense", ca.RevokedKey: string(edition)})
	}
	const domain = "else.example"
	for _, tc := range []struct {
		name    string
		steps   []map[string]string // what the ConfigMap holds, one after another
		roots   int                 // that count at last
		lists   [][]byte
		cannot  string // part of why all of it is refused; "" if it is not
		refused string // part of why lists are
	}{
		{"a list", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}}, 1, [][]byte{der}, "", ""},
		{"one that cannot be read, at first", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list) + broken}}, 0, nil, "list 2", ""},
		{"one that cannot be read, later", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": root, ca.RevokedKey: broken}}, 1, [][]byte{der}, "", "list 1"},
		{"one that cannot be read, and a later edition", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": root, ca.RevokedKey: broken + string(later)}}, 1, [][]byte{laterDER}, "", "list 1"},
		{"a later edition that is damaged", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": root, ca.RevokedKey: damaged}}, 1, [][]byte{der}, "", "not signed by the root"},
		{"it comes with a new root", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": root + otherRoot, ca.RevokedKey: damaged}}, 1, [][]byte{der}, "", "new wait"},
		{"it comes beside roots that cannot be read", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": "nonsense", ca.RevokedKey: damaged}}, 1, [][]byte{der}, "ca.crt", ""},
		{"it goes on", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": root, ca.RevokedKey: broken}, {"ca.crt": root, ca.RevokedKey: broken}}, 1, [][]byte{der}, "", "list 1"},
		{"and is mended", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": root, ca.RevokedKey: broken}, {"ca.crt": root}}, 1, nil, "", ""},
		{"a root goes beside it", []map[string]string{{"ca.crt": root + otherRoot, ca.RevokedKey: string(list)}, {"ca.crt": root, ca.RevokedKey: broken}}, 1, [][]byte{der}, "", "list 1"},
		{"a root comes beside it", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": root + otherRoot, ca.RevokedKey: broken}}, 1, [][]byte{der}, "", "new wait"},
		{"all roots change beside it", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": otherRoot, ca.RevokedKey: broken}}, 1, [][]byte{der}, "list 1", ""},
		{"a list beside roots that cannot be read", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": "nonsense", ca.RevokedKey: string(later)}}, 1, [][]byte{laterDER}, "ca.crt", ""},
		{"many editions beside them", editions, 1, [][]byte{lastDER}, "ca.crt", ""},
		{"none beside roots that cannot be read", []map[string]string{{"ca.crt": root, ca.RevokedKey: string(list)}, {"ca.crt": "nonsense"}}, 1, [][]byte{der}, "ca.crt", ""},
	} {
		var given map[string]givenRoots
		var refused map[string]error
		for _, data := range tc.steps {
			given, refused = chooseRoots([]corev1.ConfigMap{givenBy("a", domain, data), givenBy("b", domain, map[string]string{"ca.crt": otherRoot})}, given, "cluster.local", nil, now)
		}
		says := func(err error, want string) bool {
			return (err != nil) == (want != "") && (err == nil || strings.Contains(err.Error(), want))
		}
		got := given["a"]
		if len(got.roots) != tc.roots || !slices.EqualFunc(got.revoked, tc.lists, bytes.Equal) {
			t.Errorf("%s: %d roots and %d lists count, or others, want %d and %d", tc.name, len(got.roots), len(got.revoked), tc.roots, len(tc.lists))
		}
		if !says(refused["a"], tc.cannot) || !says(got.refused, tc.refused) {
			t.Errorf("%s: refused for %v, and lists for %v, want %q and %q", tc.name, refused["a"], got.refused, tc.cannot, tc.refused)
		}
		if len(given["b"].roots) != 1 || refused["b"] != nil {
			t.Errorf("%s: another ConfigMap gives %d roots: %v", tc.name, len(given["b"].roots), refused["b"])
		}
	}
}
