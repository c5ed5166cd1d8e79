// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import "testing"

func TestNameservers(t *testing.T) {
	got := parseNameservers("# a comment\nsearch a b\nnameserver 10.96.0.10\nnameserver fd00::10\nnameserver nonsense\nnameserver\noptions ndots:5")
	if len(got) != 2 || got[0].String() != "10.96.0.10:53" || got[1].String() != "[fd00::10]:53" {
		t.Errorf("got %v", got)
	}
}
