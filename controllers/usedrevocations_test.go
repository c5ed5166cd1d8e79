// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// listOf makes a revocation list that an authority signed: in PEM, and in DER.
func listOf(t *testing.T, files map[string][]byte, number int64) (file, der []byte) {
	t.Helper()
	return longListOf(t, files, number, 1)
}

// signerOf reads an authority's certificate and key.
func signerOf(t *testing.T, files map[string][]byte) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	block, _ := pem.Decode(files[ca.CertKey])
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(files[ca.KeyKey])
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key.(crypto.Signer)
}

func longListOf(t *testing.T, files map[string][]byte, number int64, entries int) (file, der []byte) {
	t.Helper()
	cert, key := signerOf(t, files)
	at := time.Unix(1_700_000_000+number, 0)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: at, NextUpdate: at.Add(time.Hour),
		RevokedCertificateEntries: slices.Repeat([]x509.RevocationListEntry{{SerialNumber: big.NewInt(number), RevocationTime: at}}, entries),
	}, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), der
}

// TestRevocationsOfTheAuthority: what was revoked stays so when the file that says it is broken, when the root is another one, and over restarts; and the authority is in use in any case.
func TestRevocationsOfTheAuthority(t *testing.T) {
	first, second := selfSignedFiles(t), selfSignedFiles(t)
	one, oneDER := listOf(t, first, 1)
	two, twoDER := listOf(t, second, 2)
	later, laterDER := listOf(t, first, 3)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: givenCA}}
	with := func(files map[string][]byte, lists []byte) map[string][]byte {
		return map[string][]byte{ca.CertKey: files[ca.CertKey], ca.KeyKey: files[ca.KeyKey], ca.RootKey: files[ca.RootKey], ca.RevokedKey: lists}
	}
	for _, restarts := range []bool{false, true} {
		c := fake.NewClientBuilder().WithObjects(secret).Build()
		var told *toldEvents
		var a *Authority
		start := func() {
			told = &toldEvents{}
			a = NewAuthority(c, c, "isthmus-system", "cluster.local", logr.Discard(), told, func() {})
		}
		start()
		for _, step := range []struct {
			name   string
			data   map[string][]byte
			remove bool
			want   [][]byte
			refuse string // what is said of lists
		}{
			{"a list", with(first, one), false, [][]byte{oneDER}, ""},
			{"a broken file", with(first, []byte("broken")), false, [][]byte{oneDER}, "not PEM"},
			{"another's list", with(first, two), false, [][]byte{oneDER}, "not signed by this authority"},
			{"both", with(first, slices.Concat(one, two)), false, [][]byte{oneDER}, "list 2"},
			{"no list", with(first, nil), false, nil, ""},
			{"a list again", with(first, one), false, [][]byte{oneDER}, ""},
			{"another root, and no list", with(second, nil), false, [][]byte{oneDER}, ""},
			{"another root, with a list of its own", with(second, two), false, [][]byte{twoDER, oneDER}, ""},
			{"a later list of the root that is kept", with(second, slices.Concat(two, later)), false, [][]byte{twoDER, laterDER}, ""},
			{"and that is gone", with(second, two), false, [][]byte{twoDER, laterDER}, ""},
			{"the kept root is to go", with(second, two), true, [][]byte{twoDER}, ""},
			{"and stays away", with(second, two), false, [][]byte{twoDER}, ""},
		} {
			s := &corev1.Secret{}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(secret), s); err != nil {
				t.Fatal(err)
			}
			s.Data, s.Annotations = step.data, nil
			if step.remove {
				s.Annotations = map[string]string{removeRootsAnnotation: removeRootsNow}
			}
			if err := c.Update(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			*told = nil
			if restarts {
				start()
			}
			for range 2 { // what is said is said once
				if _, err := a.Reconcile(t.Context(), ctrl.Request{}); err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
				a.again = time.Unix(1, 0)
			}
			if got := a.Signer().RevokedDER(); !slices.EqualFunc(got, step.want, bytes.Equal) {
				t.Errorf("%s (restarts: %t): %d lists count, or others, want %d", step.name, restarts, len(got), len(step.want))
			}
			said := slices.DeleteFunc(*told, func(e string) bool { return !strings.HasPrefix(e, "RevocationRefused: ") })
			if len(said) != min(len(step.refuse), 1) || len(said) == 1 && !strings.Contains(said[0], step.refuse) {
				t.Errorf("%s (restarts: %t): %q, want something about %q", step.name, restarts, *told, step.refuse)
			}
			var refused dto.Metric
			if err := a.listsRefused.Write(&refused); err != nil || int(refused.GetGauge().GetValue()) != min(len(step.refuse), 1) {
				t.Errorf("%s: the metric is %v (%v)", step.name, refused.GetGauge().GetValue(), err)
			}
			if got, want := a.Signer().Top().Raw, step.data[ca.RootKey]; !bytes.Equal(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: got}), want) {
				t.Errorf("%s: the authority is another one", step.name)
			}
		}
	}
}

// TestListsOfRootsThatNeverIssued: lists of a root that is trusted count over restarts as others do, though nothing was issued below it here: another cluster's issuer may be below it.
func TestListsOfRootsThatNeverIssued(t *testing.T) {
	own, other := selfSignedFiles(t), selfSignedFiles(t)
	list, der := listOf(t, other, 1)
	ownList, ownDER := listOf(t, own, 2)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: givenCA}}
	c := fake.NewClientBuilder().WithObjects(secret).Build()
	for _, step := range []struct {
		name string
		file []byte
		want [][]byte
	}{
		{"lists of both", slices.Concat(ownList, list), [][]byte{ownDER, der}},
		{"a broken file", []byte("broken"), [][]byte{ownDER, der}},
		{"which still is", []byte("broken"), [][]byte{ownDER, der}},
		{"one list", list, [][]byte{der}},
		{"a broken file after it", []byte("broken"), [][]byte{der}},
		{"no list", nil, nil},
		{"a broken file after none", []byte("broken"), nil},
	} {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
			t.Fatal(err)
		}
		secret.Data = map[string][]byte{ca.CertKey: own[ca.CertKey], ca.KeyKey: own[ca.KeyKey], ca.RootKey: slices.Concat(own[ca.RootKey], other[ca.RootKey]), ca.RevokedKey: step.file}
		if err := c.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		a := NewAuthority(c, c, "isthmus-system", "cluster.local", logr.Discard(), &toldEvents{}, func() {})
		if _, err := a.Reconcile(t.Context(), ctrl.Request{}); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := a.Signer().RevokedDER(); !slices.EqualFunc(got, step.want, bytes.Equal) {
			t.Errorf("%s: %d lists count, or others, want %d", step.name, len(got), len(step.want))
		}
	}
}

// TestListsBesideAnAuthorityThatCannotBeUsed: they count all the same, and nothing that counted before goes.
func TestListsBesideAnAuthorityThatCannotBeUsed(t *testing.T) {
	own, other := selfSignedFiles(t), selfSignedFiles(t)
	one, oneDER := listOf(t, own, 1)
	two, twoDER := listOf(t, own, 2)
	theirs, theirDER := listOf(t, other, 3)
	strange, _ := listOf(t, selfSignedFiles(t), 4)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: givenCA}}
	good := func(lists []byte) map[string][]byte {
		return map[string][]byte{ca.CertKey: own[ca.CertKey], ca.KeyKey: own[ca.KeyKey], ca.RootKey: slices.Concat(own[ca.RootKey], other[ca.RootKey]), ca.RevokedKey: lists}
	}
	broken := func(lists []byte) map[string][]byte {
		files := good(lists)
		files[ca.KeyKey] = other[ca.KeyKey]
		return files
	}
	c := fake.NewClientBuilder().WithObjects(secret).Build()
	told, changes := &toldEvents{}, 0
	newAuthority := func() *Authority {
		return NewAuthority(c, c, "isthmus-system", "cluster.local", logr.Discard(), told, func() { changes++ })
	}
	a := newAuthority()
	for _, step := range []struct {
		name    string
		data    map[string][]byte // nil: the Secret is gone
		usable  bool
		want    [][]byte
		changes int
		refuse  bool
	}{
		{"as it was", good(theirs), true, [][]byte{theirDER}, 1, false},
		{"a list", broken(one), false, [][]byte{oneDER, theirDER}, 1, false},
		{"a later edition", broken(two), false, [][]byte{twoDER, theirDER}, 1, false},
		{"no file", broken(nil), false, [][]byte{twoDER, theirDER}, 0, false},
		{"a broken file", broken([]byte("broken")), false, [][]byte{twoDER, theirDER}, 0, true},
		{"a list of nobody here", broken(slices.Concat(strange, one)), false, [][]byte{oneDER, twoDER, theirDER}, 1, true},
		{"the Secret is gone", nil, true, [][]byte{oneDER, twoDER, theirDER}, 1, false},
		{"it is as it was", good(theirs), true, [][]byte{theirDER}, 1, false},
		{"another list", broken(two), false, [][]byte{twoDER, theirDER}, 1, false},
		{"the key is found, and no list", good(theirs), true, [][]byte{theirDER}, 1, false},
	} {
		_ = c.Delete(t.Context(), secret.DeepCopy()) // it may be gone
		if step.data != nil {
			if err := c.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: givenCA}, Data: step.data}); err != nil {
				t.Fatal(err)
			}
		}
		*told, changes = nil, 0
		for range 2 { // what is done is done once
			if _, err := a.Reconcile(t.Context(), ctrl.Request{}); (err == nil) != step.usable {
				t.Errorf("%s: the authority is used with %v", step.name, err)
			}
		}
		if got := a.Signer().RevokedDER(); !slices.EqualFunc(got, step.want, bytes.Equal) {
			t.Errorf("%s: %d lists count, or others, want %d", step.name, len(got), len(step.want))
		}
		if changes != step.changes {
			t.Errorf("%s: %d changes were told, want %d", step.name, changes, step.changes)
		}
		if got := slices.ContainsFunc(*told, func(e string) bool { return strings.HasPrefix(e, "RevocationRefused: ") }); got != step.refuse {
			t.Errorf("%s: %q", step.name, *told)
		}
		if step.data != nil && !step.usable { // and over a restart
			m, err := a.recall(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			lists := m.lists
			for _, u := range m.roots {
				lists = union(lists, u.Revoked)
			}
			if len(lists) != len(step.want) {
				t.Errorf("%s: %d lists are remembered, want %d", step.name, len(lists), len(step.want))
			}
		}
	}
	if a = newAuthority(); a.Signer() != nil {
		t.Fatal("a signer that was never read")
	}
	if err := a.revokeBeside(t.Context(), givenCA, one); err != nil || a.Signer() != nil {
		t.Errorf("without any authority: %v", err)
	}
}

// TestListsThatAreRemembered: no more than a Secret holds, and none that is no list.
func TestListsThatAreRemembered(t *testing.T) {
	files := selfSignedFiles(t)
	long, _ := longListOf(t, files, 1, 14_000) // of some 290 KB
	longer, _ := longListOf(t, files, 2, 14_000)
	short, _ := listOf(t, files, 3)
	signer, err := authorityOf(t, files).Revoking(slices.Concat(long, longer, short), nil, nil)
	if err != nil || len(signer.RevokedDER()) != 3 {
		t.Fatal(len(signer.RevokedDER()), err)
	}
	used := usedRoots(nil).issuing(signer, time.Hour, time.Now(), false)
	(&remembered{roots: used}).revoking(signer)
	name := ca.RootName(signer.Top())
	data := used.encode()
	if got := decodeUsedRoots(data)[name].Revoked; len(got) != 2 || len(data[name]) > 700<<10 {
		t.Errorf("%d lists are remembered, in %d bytes", len(got), len(data[name]))
	}
	u := used[name]
	u.Revoked = [][]byte{[]byte("no list"), u.Revoked[0]}
	used[name] = u
	if got := decodeUsedRoots(used.encode())[name].Revoked; len(got) != 1 {
		t.Errorf("%d lists are read, of one", len(got))
	}

	// Those of no root that issued share the room with the others.
	m := &remembered{roots: usedRoots{}}
	if m.revoking(signer); len(m.lists) != 2 {
		t.Errorf("%d lists are remembered by themselves", len(m.lists))
	}
	alone := map[string][]byte{usedListPrefix + "a": []byte("no list"), "b": m.lists[0]}
	for _, der := range m.lists {
		alone[usedListName(der)] = der
	}
	if got := decodeUsedLists(alone); len(got) != 2 || len(decodeUsedRoots(alone)) != 0 {
		t.Errorf("%d lists are read, of two", len(got))
	}
}
