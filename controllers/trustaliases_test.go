// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// lastTold keeps what a Trust tells.
type lastTold struct{ d mesh.Delta }

func (l *lastTold) Update(d mesh.Delta)        { l.d = d }
func (l *lastTold) SetDoubt(func(string) bool) {}
func (l *lastTold) SetReady()                  {}

// TestAliasesAreTold: each other name of our trust domain has the authority's roots, beside those that a ConfigMap gives it, and gateways let its identities in.
func TestAliasesAreTold(t *testing.T) {
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	var told lastTold
	trust := NewTrust(&told, nil, system, "cluster.local", []string{"a.example", "b.example"}, func() *ca.Signer { return signer }, logr.Discard(), nil)
	key := mesh.GatewayKey{Namespace: system, Name: "eastwest"}
	trust.Update(mesh.Delta{Gateways: map[mesh.GatewayKey]*mesh.Gateway{key: {Namespace: system, Name: "eastwest", TrustDomains: []string{"cluster.local"}}}})
	trust.given = map[string]givenRoots{"c": {domain: "b.example", roots: [][]byte{{1}}}, "d": {domain: "else.example", roots: [][]byte{{2}}}}
	trust.tell(signer)

	own := signer.RootsDER()
	for domain, want := range map[string]mesh.Bundle{
		"cluster.local": {Roots: own}, "a.example": {Roots: own, AliasOf: "cluster.local"},
		"b.example": {Roots: slices.Concat(own, [][]byte{{1}}), AliasOf: "cluster.local"}, "else.example": {Roots: [][]byte{{2}}},
	} {
		got := told.d.Bundles[domain]
		if got == nil || got.AliasOf != want.AliasOf || len(got.Roots) != len(want.Roots) {
			t.Errorf("%s: told %+v, want %d roots, alias of %q", domain, got, len(want.Roots), want.AliasOf)
		}
	}
	domains := slices.Sorted(maps.Keys(told.d.Bundles))
	if got := told.d.Gateways[key].TrustDomains; !slices.Equal(got, domains) || len(got) != 4 {
		t.Errorf("the gateway lets in %q, told are %q", got, domains)
	}
}
