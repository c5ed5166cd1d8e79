// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// listKeeper is an API server with the Secret of an authority, and what stands in it.
type listKeeper struct {
	t *testing.T
	client.Client
}

func newListKeeper(t *testing.T) listKeeper {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: givenCA}}
	return listKeeper{t, fake.NewClientBuilder().WithObjects(secret).Build()}
}

func (k listKeeper) replica() *Authority {
	return NewAuthority(k, k, "isthmus-system", "cluster.local", logr.Discard(), &toldEvents{}, func() {})
}

// brings has the Secret hold files and lists.
func (k listKeeper) brings(files map[string][]byte, lists ...[]byte) {
	k.t.Helper()
	var secret corev1.Secret
	if err := k.Get(k.t.Context(), client.ObjectKey{Namespace: "isthmus-system", Name: givenCA}, &secret); err != nil {
		k.t.Fatal(err)
	}
	secret.Data = maps.Clone(files)
	secret.Data[ca.RevokedKey] = slices.Concat(lists...)
	if err := k.Update(k.t.Context(), &secret); err != nil {
		k.t.Fatal(err)
	}
}

// count has a replica look and fails unless just these lists count for it.
func (k listKeeper) count(what string, a *Authority, want ...[]byte) {
	k.t.Helper()
	_, _ = a.Reconcile(k.t.Context(), ctrl.Request{}) // the authority may be one that cannot be used
	if a.Signer() == nil {
		k.t.Fatalf("%s: there is no authority", what)
	}
	got := a.Signer().RevokedDER()
	if len(got) != len(want) || slices.ContainsFunc(want, func(der []byte) bool { return !holds(got, der) }) {
		k.t.Errorf("%s: %d lists count, or others, want %d", what, len(got), len(want))
	}
}

// A root that issues no more is forgotten when what it issued has ended, and may be trusted all the same: another cluster's issuer may be below it. Its lists are not forgotten with it.
func TestListsOfARootThatIssuedOnce(t *testing.T) {
	former, own := selfSignedFiles(t), selfSignedFiles(t)
	list, der := listOf(t, former, 1)
	k := newListKeeper(t)
	both := slices.Concat(own[ca.RootKey], former[ca.RootKey])
	a := k.replica()
	k.brings(map[string][]byte{ca.CertKey: former[ca.CertKey], ca.KeyKey: former[ca.KeyKey], ca.RootKey: both}, list)
	k.count("it issues", a, der)
	next := map[string][]byte{ca.CertKey: own[ca.CertKey], ca.KeyKey: own[ca.KeyKey], ca.RootKey: both}
	k.brings(next, list)
	k.count("it issues no more", a, der)

	m, err := a.recall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := time.Now().Add(-time.Minute)
	for name, u := range m.roots {
		if u.Until != nil {
			u.Until = &ended
			m.roots[name] = u
		}
	}
	if err := a.remember(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	k.brings(next, []byte("broken"))
	k.count("a restart", k.replica(), der)
	k.count("another one", k.replica(), der)
}

// A replica that sees only the last of two changes believes what the others do, and takes nothing away from them.
func TestListsThatAnotherReplicaSaw(t *testing.T) {
	own := selfSignedFiles(t)
	one, oneDER := listOf(t, own, 1)
	two, twoDER := listOf(t, own, 2)
	unusable := maps.Clone(own)
	unusable[ca.KeyKey] = selfSignedFiles(t)[ca.KeyKey]
	for name, last := range map[string]struct {
		files map[string][]byte
		lists []byte
	}{
		"a broken file":                              {own, []byte("broken")},
		"an authority that cannot be used":           {unusable, []byte("broken")},
		"an authority that cannot be used, no lists": {unusable, nil},
	} {
		k := newListKeeper(t)
		quick, slow := k.replica(), k.replica()
		k.brings(own, one)
		k.count(name, quick, oneDER)
		k.count(name, slow, oneDER)
		k.brings(own, two)
		k.count(name, quick, twoDER)
		k.brings(last.files, last.lists)
		k.count(name, quick, twoDER)
		k.count(name+", and a replica that was slow", slow, oneDER, twoDER)
		k.brings(own, []byte("broken"))
		k.count(name+", and a restart", k.replica(), oneDER, twoDER)
		k.brings(own, two)
		k.count(name+", and it is mended", k.replica(), twoDER)
	}
}

// The lists of a kept root for which the Secret has no room count as long as the process lives, however often it looks.
func TestListsOfAKeptRootThatAreNotRemembered(t *testing.T) {
	root, own := selfSignedFiles(t), selfSignedFiles(t)
	former := intermediateOf(t, root)
	one, oneDER := longListOf(t, former, 1, 14_000)
	two, twoDER := longListOf(t, former, 2, 14_000)
	k := newListKeeper(t)
	a := k.replica()
	k.brings(former, one, two)
	k.count("it issues", a, oneDER, twoDER)
	k.brings(own)
	for range 3 {
		k.count("it is kept", a, oneDER, twoDER)
		a.again = time.Unix(1, 0)
	}
}

// intermediateOf makes an authority below another one.
func intermediateOf(t *testing.T, above map[string][]byte) map[string][]byte {
	t.Helper()
	cert, by := signerOf(t, above)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject: pkix.Name{CommonName: "below"}, SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, cert, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		ca.CertKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), ca.KeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		ca.RootKey: bytes.Clone(above[ca.RootKey]),
	}
}
