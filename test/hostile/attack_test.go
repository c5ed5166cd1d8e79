// SPDX-License-Identifier: Apache-2.0

package hostile

import "testing"

func TestEveryAttackCanBeFound(t *testing.T) {
	for _, by := range []Role{Client, Server} {
		seen := map[string]bool{}
		for _, a := range All(by) {
			if seen[a.Name] {
				t.Errorf("two attacks of role %d are called %q", by, a.Name)
			}
			seen[a.Name] = true
			if found, ok := Named(by, a.Name); !ok || found.Do == nil {
				t.Errorf("%q of role %d is not found, or does nothing", a.Name, by)
			}
		}
		if len(seen) < 50 {
			t.Errorf("role %d has %d attacks only", by, len(seen))
		}
	}
	if _, ok := Named(Server, "rapid-reset"); ok {
		t.Error("a server was found that opens streams")
	}
}
