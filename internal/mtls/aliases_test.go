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

// A handshake that was under way when its peer's trust domain lost its other name leads to nothing: what it decided by is not so any more when its connection is to be guarded. Peers
// that are wanted under their own name, and those of whom nobody in particular was wanted, stay.
func TestAHandshakeDoesNotOutliveTheAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newAuthority(t, "root", nil)
		s := NewSource(root, SourceOptions{})
		defer s.Close()
		const ours, former = "cluster.local", "former.example"
		alias := func(of string) {
			t.Helper()
			bundles := bundleOf(former, root)
			bundles[former].AliasOf = of
			if err := s.Follow(bundles); err != nil {
				t.Fatal(err)
			}
		}
		alias(ours)
		if _, err := s.Certificate(t.Context(), cart); err != nil {
			t.Fatal(err)
		}
		peer := mesh.Identity{TrustDomain: former, Namespace: till.Namespace, ServiceAccount: till.ServiceAccount}
		// The whole handshake is over before the alias goes, and the connection is guarded after.
		if _, err, _ := shake(t, s.Client(cart, []mesh.Identity{till}), forge(t, root, []string{peer.String()}, time.Hour, nil)); err != nil {
			t.Fatal(err)
		}
		conns := map[string]*guarded{}
		for _, name := range []string{"as ours", "under its own name", "as anybody"} {
			conns[name] = from(t, root, peer.String(), nil)
		}
		alias("")
		defer s.Guard(conns["as ours"], till)()
		defer s.Guard(conns["under its own name"], till, peer)()
		defer s.Guard(conns["as anybody"])()
		synctest.Wait()
		for name, c := range conns {
			reason := Reason("")
			if name == "as ours" {
				reason = ReasonUnwanted
			}
			check(t, name, c.why, reason)
		}
	})
}
