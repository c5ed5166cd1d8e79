// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A pod that proves what counts as one of the identities that are wanted, under another name of its trust domain, is reached by sessions that are kept.
func TestOtherNamesOfIdentities(t *testing.T) {
	s := newStage(t, 1)
	s.peer = mesh.Identity{TrustDomain: "former", Namespace: lastID.Namespace, ServiceAccount: lastID.ServiceAccount}
	alias := true
	named := func(r *Request) {
		r.Expected = func(want []mesh.Identity, proved mesh.Identity) bool {
			if alias && proved.TrustDomain == "former" {
				proved.TrustDomain = lastID.TrustDomain
			}
			return slices.Contains(want, proved)
		}
	}
	for range 10 {
		s.call(named)
	}
	if n := s.handshakes(); n != 1 {
		t.Errorf("%d handshakes for 10 streams, want 1", n)
	}
	// It is not its other name any more.
	alias = false
	s.call(named)
	if n := s.handshakes(); n != 2 {
		t.Errorf("%d handshakes after the name was taken away, want 2", n)
	}
}
