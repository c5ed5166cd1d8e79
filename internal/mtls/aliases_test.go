// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// An identity under an alias of our trust domain is the same one: to clients that want it by another name, and only while the alias is told.
func TestAliases(t *testing.T) {
	root := newAuthority(t, "root", nil)
	s := NewSource(root, SourceOptions{})
	defer s.Close()
	under := func(domain, account string) mesh.Identity {
		return mesh.Identity{TrustDomain: domain, Namespace: till.Namespace, ServiceAccount: account}
	}
	follow := func(bundles map[string]*mesh.Bundle, aliasOf string) {
		t.Helper()
		for _, b := range bundles {
			if b != nil {
				b.AliasOf = aliasOf
			}
		}
		if err := s.Follow(bundles); err != nil {
			t.Fatal(err)
		}
	}
	// asks says what a client that wants one thinks of a server that is another.
	asks := func(step string, server, want mesh.Identity, reason Reason) {
		t.Helper()
		_, err, _ := shake(t, s.Client(cart, []mesh.Identity{want}), forge(t, root, []string{server.String()}, time.Hour, nil))
		check(t, step+": "+server.String()+" for "+want.String(), err, reason)
	}
	const ours, former, other = "cluster.local", "former.example", "other.example"
	if _, err := s.Certificate(t.Context(), cart); err != nil {
		t.Fatal(err)
	}

	asks("nothing told", under(former, "till"), till, ReasonTrustDomain)
	follow(bundleOf(former, root), "")
	asks("a friend", under(former, "till"), till, ReasonUnwanted)
	follow(bundleOf(former, root), ours)
	follow(bundleOf(other, root), "")
	asks("an alias", under(former, "till"), till, "")
	asks("an alias", till, under(former, "till"), "")
	asks("an alias", under(former, "till"), under(former, "till"), "")
	asks("an alias", under(former, "cart"), till, ReasonUnwanted)
	asks("an alias", under(other, "till"), till, ReasonUnwanted)
	if got := s.Canonical(former) + " " + s.Canonical(ours) + " " + s.Canonical(other); got != ours+" "+ours+" "+other {
		t.Errorf("canonical: %s", got)
	}
	follow(map[string]*mesh.Bundle{former: nil}, "")
	asks("taken back", under(former, "till"), till, ReasonTrustDomain)
	if s.Canonical(former) != former {
		t.Error("the alias outlived its bundle")
	}
}

// A connection to a peer that was wanted under another name of its domain ends with that name, and no other one does.
func TestConnectionsEndWithTheAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newAuthority(t, "root", nil)
		s := NewSource(root, SourceOptions{})
		defer s.Close()
		const ours, former, friend = "cluster.local", "former.example", "friend.example"
		follow := func(domain, aliasOf string) {
			t.Helper()
			bundles := bundleOf(domain, root)
			bundles[domain].AliasOf = aliasOf
			if err := s.Follow(bundles); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for domain, aliasOf := range map[string]string{former: ours, friend: ""} {
			follow(domain, aliasOf)
		}
		conns := map[string]*guarded{}
		for _, domain := range []string{ours, former, friend} {
			conns[domain] = from(t, root, "spiffe://"+domain+"/ns/shop/sa/till", nil)
			defer s.Guard(conns[domain])()
		}
		expect := func(step string, ended ...string) {
			t.Helper()
			for domain, c := range conns {
				if got := c.why != nil; got != slices.Contains(ended, domain) {
					t.Errorf("%s: connection to %s ended: %v", step, domain, c.why)
				}
			}
		}
		follow(former, ours)
		follow(friend, "")
		expect("told again")
		follow(friend, ours)
		expect("one more alias")
		follow(former, "")
		expect("one less", former)
	})
}
