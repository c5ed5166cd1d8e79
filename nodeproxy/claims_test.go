// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestClaimsAreForgotten: one peer that claims to be ever new workloads costs others nothing, many that do cost them an hour at most, and what is said all the time stays known.
func TestClaimsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaims()
		peer := func(i int) mesh.Identity {
			return mesh.Identity{TrustDomain: "td", Namespace: "n", ServiceAccount: fmt.Sprint("sa", i)}
		}
		believed := func(by mesh.Identity, service string) bool { return c.believe(by, "service.name="+service) != party{} }

		for i := range 10 * maxClaimsOfPeer {
			if got := believed(peer(0), fmt.Sprint("liar", i)); got != (i < maxClaimsOfPeer) {
				t.Fatalf("claim %d of one peer: believed %v", i, got)
			}
		}
		if !believed(peer(1), "cart") {
			t.Error("another peer pays for that")
		}
		for i := 2; len(c.seen) < maxClaims; i++ {
			believed(peer(i), fmt.Sprint("job", i))
		}
		if believed(peer(1), "basket") || !believed(peer(1), "cart") {
			t.Error("beyond the bound, what is new is believed, or what was known is not")
		}
		time.Sleep(seriesIdle / 2)
		if !believed(peer(1), "cart") {
			t.Error("what was known is not")
		}
		time.Sleep(seriesIdle / 2)
		if !believed(peer(1), "basket") || !believed(peer(0), "honest") {
			t.Error("an hour later there still is no room")
		}
		if n := len(c.seen); n != 3 || len(c.of) != 2 {
			t.Errorf("%d claims of %d peers are kept, want 3 of 2", n, len(c.of))
		}
	})
}
