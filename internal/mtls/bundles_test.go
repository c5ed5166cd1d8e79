// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func bundleOf(domain string, authorities ...*authority) map[string]*mesh.Bundle {
	b := &mesh.Bundle{TrustDomain: domain}
	for _, a := range authorities {
		b.Roots = append(b.Roots, a.cert.Raw)
	}
	return map[string]*mesh.Bundle{domain: b}
}

// Roots that are told count at the next handshake, long before certificates are renewed, and what comes with an older certificate does not undo them.
func TestToldRootsCountAtOnce(t *testing.T) {
	old, young, foreign := newAuthority(t, "old", nil), newAuthority(t, "young", nil), newAuthority(t, "foreign", nil)
	s := NewSource(old, SourceOptions{})
	defer s.Close()
	server := s.Server(till)
	follow := func(bundles map[string]*mesh.Bundle) {
		t.Helper()
		if err := s.Follow(bundles); err != nil {
			t.Fatal(err)
		}
	}
	renew := func() {
		t.Helper()
		for _, id := range []mesh.Identity{cart, till} {
			s.Drop(id)
			if _, err := s.Certificate(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(step string, ofOld, ofYoung, ofFriend Reason) {
		t.Helper()
		for _, peer := range []struct {
			by   *authority
			uri  string
			want Reason
		}{
			{old, cart.String(), ofOld}, {young, cart.String(), ofYoung}, {foreign, "spiffe://friend.example/ns/shop/sa/till", ofFriend},
			{foreign, cart.String(), ReasonChain}, // never for a name of ours
		} {
			_, _, err := shake(t, forge(t, peer.by, []string{peer.uri}, time.Hour, nil), server)
			check(t, step+": "+peer.by.cert.Subject.CommonName+" for "+peer.uri, err, peer.want)
		}
	}
	renew()
	expect("as it was", "", ReasonChain, ReasonTrustDomain)
	follow(bundleOf("cluster.local", old, young))
	expect("both told", "", "", ReasonTrustDomain)
	renew()
	expect("certificates with the old root alone", "", "", ReasonTrustDomain)
	follow(bundleOf("friend.example", foreign))
	expect("a friend", "", "", "")
	follow(bundleOf("cluster.local", young))
	expect("the old root gone", ReasonChain, "", "")
	follow(map[string]*mesh.Bundle{"friend.example": nil})
	expect("no friend", ReasonChain, "", ReasonTrustDomain)

	bad := bundleOf("cluster.local", old)
	bad["cluster.local"].Roots[0] = []byte("no certificate")
	for name, b := range map[string]map[string]*mesh.Bundle{"unreadable": bad, "empty": bundleOf("cluster.local"), "no domain": bundleOf("not a domain", old)} {
		if err := s.Follow(b); err == nil {
			t.Errorf("a bundle that is %s was taken", name)
		}
	}
	expect("bad bundles", ReasonChain, "", ReasonTrustDomain)

	follow(map[string]*mesh.Bundle{"cluster.local": nil})
	expect("our own not told any more: those of the certificates count", "", ReasonChain, ReasonTrustDomain)
}
