// SPDX-License-Identifier: Apache-2.0

package mesh

import "testing"

func TestHostnamesMeet(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"", "a.org", true}, {"", "*.org", true},
		{"a.org", "a.org", true}, {"a.org", "b.org", false},
		{"*.org", "a.org", true}, {"*.org", "b.a.org", true}, {"*.a.org", "a.org", false}, {"*.a.org", "ba.org", false}, {"*.a.org", ".a.org", false},
		{"*.org", "*.a.org", true}, {"*.a.org", "*.b.org", false}, {"*.a.org", "*.ba.org", false},
	} {
		if HostnamesMeet(tc.a, tc.b) != tc.want || HostnamesMeet(tc.b, tc.a) != tc.want {
			t.Errorf("%q and %q: want %t", tc.a, tc.b, tc.want)
		}
	}
}
