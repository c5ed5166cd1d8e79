// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func sampleBundle() *mesh.Bundle {
	cert, _ := identity()
	return &mesh.Bundle{TrustDomain: "else.example", Roots: [][]byte{cert.Certificate[0]}, Revoked: [][]byte{revocationList()}, AliasOf: "whole.example"}
}

// revocationList is an empty one of an authority of its own.
func revocationList() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "issuer"}, SubjectKeyId: []byte("issuer"), KeyUsage: x509.KeyUsageCRLSign}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
	}, issuer, key)
	if err != nil {
		panic(err)
	}
	return der
}

func TestBundlesThatAreRefused(t *testing.T) {
	root := sampleBundle().Roots[0]
	for _, tc := range []struct {
		name string
		b    mesh.Bundle
		text string // of the reason
	}{
		{"no domain", mesh.Bundle{Roots: [][]byte{root}}, "trust_domain"},
		{"what is no domain", mesh.Bundle{TrustDomain: "a/b", Roots: [][]byte{root}}, "trust_domain"},
		{"a long domain", mesh.Bundle{TrustDomain: strings.Repeat("d", maxName+1), Roots: [][]byte{root}}, "trust_domain"},
		{"an alias of itself", mesh.Bundle{TrustDomain: "d", Roots: [][]byte{root}, AliasOf: "d"}, "alias_of"},
		{"an alias of what is no domain", mesh.Bundle{TrustDomain: "d", Roots: [][]byte{root}, AliasOf: "A b"}, "alias_of"},
		{"no roots", mesh.Bundle{TrustDomain: "d"}, "roots"},
		{"too many roots", mesh.Bundle{TrustDomain: "d", Roots: slices.Repeat([][]byte{root}, mesh.MaxRoots+1)}, "roots"},
		{"a root that is none", mesh.Bundle{TrustDomain: "d", Roots: [][]byte{root, []byte("x")}}, "root"},
		{"a revocation list that is none", mesh.Bundle{TrustDomain: "d", Roots: [][]byte{root}, Revoked: [][]byte{root}}, "revocation"},
		{"too many revocation lists", mesh.Bundle{TrustDomain: "d", Roots: [][]byte{root}, Revoked: make([][]byte, mesh.MaxLists+1)}, "revoked"},
		{"long revocation lists", mesh.Bundle{TrustDomain: "d", Roots: [][]byte{root}, Revoked: [][]byte{make([]byte, mesh.MaxListBytes+1)}}, "bytes"},
		{"a long root", mesh.Bundle{TrustDomain: "d", Roots: [][]byte{make([]byte, maxRootBytes+1)}}, "root"},
	} {
		body, err := encodeBundle(&tc.b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(bundleURL, body); err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want something about %q", tc.name, err, tc.text)
		}
	}
}

// Bundles are told, changed and withdrawn like anything else, over a restart too.
func TestClientFollowsBundles(t *testing.T) {
	server := start(t, "", ready(t, ServerOptions{}))
	want := mesh.NewSnapshot()
	m := newMirror()
	o := clientOptions(t, server.addr, m)
	o.Types = []Type{Bundles(), Addresses(), Policies()}
	client := NewClient(o)
	stop := run(t, client)
	awaitSynced(t, client)
	tell := func(domain string, b *mesh.Bundle) {
		d := mesh.Delta{Bundles: map[string]*mesh.Bundle{domain: b}}
		want.Apply(d)
		server.Update(d)
	}
	tell("else.example", sampleBundle())
	own := *sampleBundle()
	own.TrustDomain = "cluster.local"
	tell("cluster.local", &own)
	m.await(t, want)
	own.Roots = append(own.Roots, own.Roots[0])
	tell("cluster.local", &own)
	m.await(t, want)
	stop()
	tell("else.example", nil)
	run(t, client)
	m.await(t, want)
}

// A control plane without bundles, as an istiod, keeps nobody from being ready.
func TestNobodyWaitsForBundles(t *testing.T) {
	server := ready(t, ServerOptions{})
	delete(server.tables, bundleURL)
	running := start(t, "", server)
	o := clientOptions(t, running.addr, newMirror())
	o.Types = []Type{Bundles(), Addresses(), Policies()}
	client := NewClient(o)
	run(t, client)
	awaitSynced(t, client)
}
